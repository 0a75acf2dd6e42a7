--- What `omade db doctor` looks at in the shop's own data.  A check gets rows(sql, ...) as
-- the owner and tell.warning(format, ...), for what somebody should see to, tell.hint.

local uploads = require "omade.uploads"

local checks = {}

local MOST <const> = 10         -- of one kind that are told one by one

--- level(format, ...) for the first of many things, and how many more there are.
local function tell_some(level, format, list)
  for i = 1, math.min(#list, MOST) do level(format, table.unpack(list[i])) end
  if #list > MOST then level("and %d more like the last one", #list - MOST) end
end

local ENDING <const> = [[
  SELECT code, to_char(valid_to, 'YYYY-MM-DD HH24:MI') AS ends FROM promo_codes
  WHERE valid_to BETWEEN now() AND now() + interval '7 days' ORDER BY valid_to, code]]

local USED_UP <const> = [[
  SELECT code, used_count, usage_limit FROM promo_codes
  WHERE valid_to > now() AND usage_limit IS NOT NULL AND used_count >= 0.9 * usage_limit ORDER BY code]]

function checks.promotions(rows, tell)
  for _, promo in ipairs(rows(ENDING)) do tell.warning("promo code %s expires at %s UTC", promo.code, promo.ends) end
  for _, promo in ipairs(rows(USED_UP)) do
    tell.warning("promo code %s is nearly used up: %s of %s", promo.code, promo.used_count, promo.usage_limit)
  end
end

-- Whatever may name a file: uploads themselves, pictures of products, people and cakes.
local NAMED <const> = [[
  SELECT name, true AS row FROM uploads
  UNION ALL SELECT substring(image_url FROM '[^/]*$'), false FROM products WHERE image_url LIKE '/uploads/%'
  UNION ALL SELECT substring(avatar_url FROM '[^/]*$'), false FROM users WHERE avatar_url LIKE '/uploads/%'
  UNION ALL SELECT image_reference, false FROM custom_cake_configurations WHERE image_reference IS NOT NULL]]

--- The files were listed before the rows are asked for: one that came meanwhile is no orphan.
---@param present fun(): string[] names in the upload folder
---@param exists fun(name: string): boolean
function checks.uploads(rows, tell, present, exists)
  local names, named, lost, idle = present(), {}, {}, {}
  for _, row in ipairs(rows(NAMED)) do
    named[row.name] = true
    if row.row == "t" and not exists(row.name) then lost[#lost + 1] = { row.name } end
  end
  for _, name in ipairs(names) do
    if uploads.is_reference(name) and not named[name] then idle[#idle + 1] = { name } end
  end
  tell_some(tell.warning, "upload %s has a row and no file: restore it from a backup, or delete the row", lost)
  tell_some(tell.hint, "file %s in the upload folder is named by nothing: it may be deleted", idle)
end

return checks
