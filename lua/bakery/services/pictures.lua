--- Pictures that cakes, products and people refer to: those of ours were uploaded here.

local db      = require "omade.db"
local uploads = require "omade.uploads"
local v       = require "omade.validate"

local pictures = {}

local KNOWN <const> = "SELECT upload_exists($1) AS known"

--- Refuses cakes, by their paths in the body, whose picture nobody uploaded.
---@param cakes table<string, {image_reference?: string}>
function pictures.check(cakes)
  local statements, paths = {}, {}
  for path, cake in pairs(cakes) do
    if cake.image_reference then
      paths[#paths + 1] = path .. ".image_reference"
      statements[#paths] = { KNOWN, cake.image_reference, as = "row" }
    end
  end
  if #statements == 0 then return end
  local faults = {}
  for i, row in ipairs(db.batch(statements)) do
    if not row.known then
      faults[#faults + 1] = { path = paths[i], message = "Image reference must be what an upload answered" }
    end
  end
  v.refuse(faults)
end

--- Refuses the address of an upload that there is not; others, and none, are left alone.
---@param field string of the body
---@param url any
function pictures.check_url(field, url)
  if type(url) ~= "string" or url:sub(1, #uploads.prefix) ~= uploads.prefix then return end
  if not db.row(KNOWN, url:sub(#uploads.prefix + 1)).known then
    local label = field:gsub("_", " "):gsub("^%l", string.upper)
    v.refuse { { path = field, message = label .. " must be https, or what an upload answered" } }
  end
end

return pictures
