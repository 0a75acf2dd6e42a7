--- Pictures: of custom cakes as they are wished for, and whatever was uploaded.

local db      = require "omade.db"
local s       = require "omade.schema"
local uploads = require "omade.uploads"
local v       = require "omade.validate"
local web     = require "omade.web"

local function show(req) return uploads.answer(req.params.name) end

--- The row tells whose it is, and that it may be referred to.
local function upload(req)
  local reference, url, file = uploads.keep(req, "image")
  local ok, fault = pcall(db.exec, "INSERT INTO uploads (name, content_type, size) VALUES ($1, $2, $3)",
                          reference, "image/" .. file.kind, file.size)
  if not ok then
    uploads.drop(reference)
    error(fault, 0)
  end
  return web.created({ image_reference = reference, url = url }, "Image uploaded successfully")
end

local Name <const> = v.shape { name = v.text { max = 100 } }

return web.routes("", {
  { "GET",  "/uploads/:name", show, who = "anyone", params = Name, public = true, limit = false,
    bare = true, type = "image/*", status = { 200, 304 }, summary = "An uploaded picture" },
  { "POST", "/api/v1/custom-cakes/upload", upload, who = "optional", files = { "image" },
    body = v.shape { image = v.file() },
    status = 201, answer = s.object { image_reference = s.text, url = s.text },
    summary = "Upload a picture for a custom cake" },
})
