--- Hashes, signatures, random tokens, passwords.

---@class omade.crypto
---@field sha256 fun(text: string): string in hex
---@field hmac_sha256 fun(key: string, text: string): string in hex
---@field equal fun(a: string, b: string): boolean in constant time
---@field random fun(n?: integer): string n random bytes (32)
---@field token fun(n?: integer): string n random bytes (32), in hex
---@field bcrypt fun(password: string, cost?: integer): string a hash to store; waits off the loop
---@field verify fun(password: string, hash: string): boolean waits off the loop

return require "omade.core.crypto"
