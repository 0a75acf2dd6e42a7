--- Which passwords are good enough.

local passwords = {}

passwords.MIN, passwords.MAX = 8, 128      -- characters

--- Words that people take; with other letters, digits or signs around them, they are still
-- the first that are tried.  Written with letters only, in lower case.
local COMMON <const> = [[
  aaaaaa abc abcabc abcd abcdef abcdefg abcdefgh abcdefghi access accord admin administrator
  alexander amanda america andrea andrew angel angela anthony apple april arsenal asdf asdfasdf
  asdfgh asdfghjk asdfghjkl ashley august austin autumn azerty babygirl bailey barcelona baseball
  basketball batman beautiful beer bigdog blahblah buster butterfly cake cakes changeit changeme
  charlie cheese chelsea chocolate chris christmas computer cookie cookies corvette daniel dallas
  december default demo diamond dragon easter eagle email england example facebook february ferrari
  flower flowers football forever freedom friday friend friends ginger golfer google guest guitar
  hannah happy harley heather hello helloworld hockey home house hunter iloveyou internet jackson
  january jasmine jennifer jessica jesus jordan joshua july june justin killer kitty letmein letmeinnow
  lakers liverpool login london love lovely lover maggie manager march marina martin master matrix
  matthew michael michelle minecraft money monday monkey monster mustang myspace mypass mypassword
  newpass newpassword nicole ninja november october omade omadecravings oliver orange pass passw
  passwort password passwords passwordd passwd password pepper phoenix please pokemon princess
  qazwsx qazwsxedc qqww qwer qwert qwerty qwertyu qwertyui qwertyuiop qwertz rainbow ranger robert
  root samantha samsung saturday secret secure security server shadow slipknot snoopy soccer sophie
  spiderman spring starwars startrek steelers summer sunday sunflower sunshine superman superuser
  system tennis test tester testing testtest thomas thunder tigger tiger trustno trustnoone tuesday
  user username vanilla victoria wednesday welcome whatever william winner winter yankees yellow
  zaqwsx zxcvbn zxcvbnm
]]

-- Signs that stand for letters.
local LETTERS <const> = {
  ["@"] = "a", ["4"] = "a", ["8"] = "b", ["3"] = "e", ["6"] = "g", ["1"] = "i", ["!"] = "i",
  ["|"] = "l", ["0"] = "o", ["$"] = "s", ["5"] = "s", ["7"] = "t", ["+"] = "t", ["2"] = "z",
}

local common = {}
for word in COMMON:gmatch "%a+" do common[word] = true end

local function letters_of(text)
  return (text:gsub("%A", function(sign) return LETTERS[sign] end):gsub("%A", ""))
end

--- "P@ssw0rd123!" is "password" with signs for letters and something behind it.
local function is_common(password)
  local text = password:lower()
  local core = text:gsub("^[^%a@$]+", ""):gsub("[^%a@$]+$", "")
  return common[letters_of(core)] or common[letters_of(text)] or common[(text:gsub("%A", ""))]
    or false
end

--- What is wrong with a password, if anything; its length was checked before.
---@param password string
---@return string? fault as in "must contain a digit"
function passwords.fault(password)
  if not password:find "%l" then return "must contain a lower-case letter" end
  if not password:find "%u" then return "must contain an upper-case letter" end
  if not password:find "%d" then return "must contain a digit" end
  if not password:find "[^%w%s]" then return "must contain a special character" end
  if is_common(password) then return "is too common" end
end

return passwords
