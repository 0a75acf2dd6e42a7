--- ID tokens for tests, signed by openssl with keys that lie in $TEST_WORK.

local cjson  = require "cjson"
local client = require "client"
local mime   = require "mime"

local id_token = {}

local WORK <const> = os.getenv "TEST_WORK"

local function base64url(bytes)
  return (mime.b64(bytes):gsub("+", "-"):gsub("/", "_"):gsub("=", ""))
end

local function write(name, bytes)
  local file = assert(io.open(WORK .. "/" .. name, "wb"))
  file:write(bytes)
  file:close()
end

function id_token.read(name)
  local file = assert(io.open(WORK .. "/" .. name, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

--- The two numbers of an ECDSA signature in DER, 32 bytes each.
local function raw_of(der)
  local at, raw = 3, ""
  for _ = 1, 2 do
    local size = der:byte(at + 1)
    local number = der:sub(at + 2, at + 1 + size):gsub("^\0+", "")
    raw = raw .. ("\0"):rep(32 - #number) .. number
    at = at + 2 + size
  end
  return raw
end

local function sign_by_key(key)
  client.shell(("cd %s && openssl dgst -sha256 -sign %s -out sig in"):format(WORK, key))
end

local SIGN <const> = {
  RS256 = sign_by_key,
  ES256 = sign_by_key,
  HS256 = function(key)
    client.shell(("cd %s && openssl dgst -sha256 -mac HMAC -macopt hexkey:$(od -An -v -tx1 %s | tr -d ' \\n') -binary -out sig in")
                 :format(WORK, key))
  end,
}

--- options: alg, kid, key (a file), header, claims, without (names of claims), signature (of
-- alg "none"), der (ES256 not as JOSE has it).
function id_token.make(options)
  local alg = options.alg or "RS256"
  local header = { alg = alg, typ = "JWT", kid = options.kid or (alg == "ES256" and "e1" or "r1") }
  for name, value in pairs(options.header or {}) do header[name] = value end
  local claims = { iss = "https://issuer.test", aud = "shop", iat = os.time(), exp = os.time() + 600 }
  for name, value in pairs(options.claims or {}) do claims[name] = value end
  for _, name in ipairs(options.without or {}) do claims[name] = nil end
  local text = base64url(cjson.encode(header)) .. "." .. base64url(cjson.encode(claims))
  if alg == "none" then return text .. "." .. (options.signature or "") end
  write("in", text)
  SIGN[alg](options.key or (alg == "ES256" and "ec.pem" or "rsa.pem"))
  local signature = id_token.read "sig"
  if alg == "ES256" and not options.der then signature = raw_of(signature) end
  return text .. "." .. base64url(signature)
end

return id_token
