-- Uploads: pictures as files of multipart bodies, for products and custom cakes.
-- serve: --workers 2

local check  = require "check"
local client = require "client"

local UPLOAD <const> = "/api/v1/custom-cakes/upload"
local PRODUCTS <const> = "/api/v1/products"
local NOBODY <const> = "10000000-0000-0000-0000-0000000fffff"
local MB <const> = 1 << 20

local admin, customer = client.session "admin", client.session "customer"

local function png(width, height, size)
  local head = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR" .. (">I4I4"):pack(width, height) .. "\8\6\0\0\0crc."
  return head .. ("x"):rep(size - #head)
end

local PNG <const> = png(10, 20, 500)
local JPEG <const> = "\xff\xd8\xff\xc0\0\x11\8\0\7\1\2\3" .. ("."):rep(100)
local WEBP <const> = "RIFF....WEBPVP8X....\0\0\0\0\1\1\0\6\0\0" .. ("."):rep(100)

--- A multipart request: fields are texts, or {filename, bytes}.
local function send(method, path, fields, options)
  options = options or {}
  local parts = {}
  for name, value in pairs(fields) do
    local file = type(value) == "table"
    parts[#parts + 1] = '--XyZ\r\nContent-Disposition: form-data; name="' .. name .. '"'
      .. (file and '; filename="' .. value[1] .. '"\r\nContent-Type: text/html' or "")
      .. "\r\n\r\n" .. (file and value[2] or value) .. "\r\n"
  end
  return client.request(method, path, {
    token = options.token, body = options.body or table.concat(parts) .. "--XyZ--\r\n", on = options.on,
    headers = { ["Content-Type"] = "multipart/form-data; boundary=XyZ" },
  })
end

local function kept()
  return tonumber((client.shell "ls -A \"$TEST_WORK/uploads\" | wc -l"))
end

--- Nothing is kept by what fn asks for.
local function keeps_nothing(fn)
  local before = kept()
  fn()
  check.equal(kept(), before, "files")
end

return {
  { "a picture is kept under a random name, and served for ever", function()
    for kind, bytes in pairs { png = PNG, jpg = JPEG, webp = WEBP } do
      local data = check.status(send("POST", UPLOAD, { image = { "../../evil.html", bytes } }), 201).json().data
      check.matches(data.image_reference, "^" .. ("%x"):rep(32) .. "%." .. kind .. "$")
      check.equal(data.url, "/uploads/" .. data.image_reference)
      local answer = check.status(client.get(data.url), 200)
      check.equal(answer.body, bytes)
      check.equal(answer.headers["content-type"], "image/" .. kind:gsub("jpg", "jpeg"))
      check.equal(answer.headers["x-content-type-options"], "nosniff")
      check.equal(answer.headers["cache-control"], "public, max-age=31536000, immutable")
      check.status(client.get(data.url, { headers = { ["If-None-Match"] = answer.headers.etag } }), 304)
    end
    local own = check.status(send("POST", UPLOAD, { image = { "a", PNG } }, { token = customer }), 201).json().data
    check.equal(client.sql("SELECT user_id, content_type, size FROM uploads WHERE name = '" .. own.image_reference .. "'"),
                "00000000-0000-0000-0000-000000000003|image/png|500")
    check.equal(client.sql("SELECT count(*) FROM uploads WHERE user_id IS NULL"), "3")
    check.status(send("POST", UPLOAD, { image = { "a", PNG } }, { token = "over" }), 401)
  end },

  { "a cake refers to a picture that was uploaded, in carts and orders alike", function()
    local known = check.status(send("POST", UPLOAD, { image = { "a", PNG } }), 201).json().data.image_reference
    local session = check.status(client.post "/api/v1/cart/guest", 201).json().data.session_id
    local function item(picture)
      return { product_id = "10000000-0000-0000-0000-000000000001",
               custom_cake = { flavor = "vanilla", size = "small_6", frosting = "buttercream", image_reference = picture } }
    end
    local function add(picture)
      return client.post("/api/v1/cart/items", { body = item(picture), headers = { ["X-Session-Id"] = session } })
    end
    local function order(...)
      return client.post("/api/v1/orders", { body = { guest_name = "Gus", guest_email = "gus@example.com", items = { ... } } })
    end
    for _, unknown in ipairs { "no.png", ("f"):rep(32) .. ".png", known:upper() } do
      check.truthy(check.status(add(unknown), 400, "VALIDATION_ERROR").json().fields["custom_cake.image_reference"], unknown)
      check.truthy(check.status(order(item(known), item(unknown)), 400, "VALIDATION_ERROR")
                   .json().fields["items[1].custom_cake.image_reference"], unknown)
    end
    check.equal(check.status(add(known), 200).json().data.items[1].custom_cake.image_reference, known)
    check.equal(check.status(order(item(known)), 201).json().data.items[1].custom_cake.image_reference, known)
  end },

  { "what is no picture by its bytes is refused, whatever it says it is", function()
    keeps_nothing(function()
      for _, bytes in ipairs { "<html><script>alert(1)</script>", "", "GIF89a" .. ("."):rep(60), PNG:sub(1, 20),
                               "<svg xmlns='http://www.w3.org/2000/svg'/>", "\0" .. PNG } do
        check.status(send("POST", UPLOAD, { image = { "a.png", bytes } }), 415, "UNSUPPORTED_MEDIA_TYPE")
      end
      local body = check.status(send("POST", UPLOAD, { image = { "a.png", png(20000, 10, 100) } }), 400,
                                "VALIDATION_ERROR").json()
      check.matches(body.fields.image, "pixels")
      check.status(send("POST", UPLOAD, { image = { "a.png", png(9000, 9000, 100) } }), 400)
    end)
  end },

  { "10 MB are the most", function()
    check.status(send("POST", UPLOAD, { image = { "a.png", png(10, 10, 10 * MB) } }), 201)
    keeps_nothing(function()
      check.status(send("POST", UPLOAD, { image = { "a.png", png(10, 10, 10 * MB + 1) } }), 413, "PAYLOAD_TOO_LARGE")
      check.status(send("POST", UPLOAD, { image = { "a", PNG }, notes = ("x"):rep(MB + 1) }), 413)
      local c = client.connect()
      c:send("POST " .. UPLOAD .. " HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=X\r\n"
             .. "Content-Length: 999999999\r\n\r\n")
      check.status(c:answer("POST"), 413)
      c:close()
    end)
  end },

  { "a disk without room: 507, and no file, also of a product", function()
    local workers = client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID")
    local function largest_file(bytes)
      for pid in workers:gmatch "%d+" do
        local out, ok = client.shell(("prlimit --pid %s --fsize=%s:"):format(pid, bytes))
        if not ok then error(out) end
      end
    end
    local big = { "a.png", png(10, 10, 6 * MB) }
    local function product() return { name = "No room", price = "1.00", category = "x", stock = "1", image = big } end
    largest_file(5 * MB)
    keeps_nothing(function()
      for _ = 1, 4 do
        check.status(send("POST", UPLOAD, { image = big }), 507, "STORAGE_FULL")
        check.status(send("POST", PRODUCTS, product(), { token = admin }), 507, "STORAGE_FULL")
      end
      check.equal(client.sql "SELECT count(*) FROM products WHERE name = 'No room'", "0")
    end)
    check.status(send("POST", UPLOAD, { image = { "a.png", PNG } }), 201)
    largest_file "unlimited"
    check.status(send("POST", UPLOAD, { image = big }), 201)
    check.equal(client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID"), workers, "the workers")
  end },

  { "malformed, missing, doubled, and other bodies", function()
    keeps_nothing(function()
      check.status(send("POST", UPLOAD, {}, { body = "--XyZ\r\nno" }), 400)
      check.status(send("POST", UPLOAD, {}, { body = "" }), 400)
      check.truthy(check.status(send("POST", UPLOAD, {}), 400, "VALIDATION_ERROR").json().fields.image)
      check.status(send("POST", UPLOAD, { image = "text" }), 400, "VALIDATION_ERROR")
      check.status(send("POST", UPLOAD, { image = { "", "" } }), 400, "VALIDATION_ERROR")
      check.status(send("POST", UPLOAD, { image = { "a", PNG }, bad = "\xff" }), 400)
      check.status(send("POST", UPLOAD, { image = { "a", PNG }, bad = "\0" }), 400)
      local part = '--XyZ\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' .. PNG .. "\r\n"
      check.status(send("POST", UPLOAD, {}, { body = part .. part .. "--XyZ--" }), 400, "VALIDATION_ERROR")
      check.status(send("POST", UPLOAD, {}, { body = part:rep(101) .. "--XyZ--" }), 400)
      check.status(client.post(UPLOAD, { body = { image = { at = 1, kind = "png" } } }), 400, "VALIDATION_ERROR")
      check.status(client.post(UPLOAD, { body = PNG, headers = { ["Content-Type"] = "image/png" } }), 415)
    end)
  end },

  { "only kept files are served", function()
    for _, name in ipairs { "x", "%2e.%2e", ("a"):rep(32), ("a"):rep(32) .. ".png",
                            ("a"):rep(32) .. ".html", ("a"):rep(32) .. ".png.part", ".png" } do
      check.status(client.get("/uploads/" .. name), 404)
    end
  end },

  { "a product with its picture, in one form", function()
    local data = check.status(send("POST", PRODUCTS, {
      name = "Form Cake", price = "12.50", stock = "3", is_customizable = "true", allergens = "eggs,milk",
      image = { "cake.jpg", JPEG },
    }, { token = admin }), 201).json().data
    check.equal(data.price, 12.5)
    check.equal(data.stock, 3)
    check.equal(data.is_customizable, true)
    check.same(data.allergens, { "eggs", "milk" })
    check.equal(check.status(client.get(data.image_url), 200).body, JPEG)

    local changed = check.status(send("PATCH", PRODUCTS .. "/" .. data.id, { image = { "a", PNG } },
                                      { token = admin }), 200).json().data
    check.equal(client.get(changed.image_url).body, PNG)
    check.equal(changed.name, "Form Cake")
    check.equal(client.get(PRODUCTS .. "/" .. data.id).json().data.image_url, changed.image_url)
    check.status(send("PATCH", PRODUCTS .. "/" .. data.id, { price = "3" }, { token = admin }), 200)
  end },

  { "a product's picture is https, or was uploaded here", function()
    local function add(url)
      return client.post(PRODUCTS, { token = admin, body = { name = "Picture Cake", price = 1, image_url = url } })
    end
    local uploaded = check.status(send("POST", UPLOAD, { image = { "a", PNG } }, { token = admin }), 201).json().data.url
    local id = check.status(add(uploaded), 201).json().data.id
    for _, url in ipairs { "/uploads/" .. ("0"):rep(32) .. ".png", "/uploads/", uploaded .. "?x", "/uploads/../x" } do
      for _, answer in ipairs { add(url), client.patch(PRODUCTS .. "/" .. id, { token = admin, body = { image_url = url } }) } do
        check.truthy(check.status(answer, 400, "VALIDATION_ERROR").json().fields.image_url, url)
      end
    end
    check.status(client.patch(PRODUCTS .. "/" .. id, { token = admin, body = { image_url = "https://x.example/a.png" } }), 200)
  end },

  { "a refused product leaves no file", function()
    keeps_nothing(function()
      local image = { "a.png", PNG }
      local body = check.status(send("POST", PRODUCTS, { name = "x", price = "1.234", image = image },
                                     { token = admin }), 400, "VALIDATION_ERROR").json()
      check.truthy(body.fields.name and body.fields.price, "all faults")
      check.status(send("POST", PRODUCTS, { name = "Cake", price = "1", image = image }, { token = customer }), 403)
      check.status(send("POST", PRODUCTS, { name = "Cake", price = "1", image = image }), 401)
      check.status(send("PATCH", PRODUCTS .. "/" .. NOBODY, { image = image }, { token = admin }), 404)
      check.status(client.patch(PRODUCTS .. "/" .. NOBODY, { body = { image = "x" }, token = admin }), 400)
    end)
  end },

  { "many at once, and clients that leave", function()
    local before, all = kept(), {}
    for i = 1, 20 do
      all[i] = client.connect()
      local body = '--XyZ\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        .. png(i, i, 300000) .. "\r\n--XyZ--"
      all[i]:send(client.format("POST", UPLOAD, { body = body, headers = {
        ["Content-Type"] = "multipart/form-data; boundary=XyZ" } }))
    end
    for i = 1, 20 do
      check.status(all[i]:answer("POST"), 201)
      all[i]:close()
    end
    check.equal(kept(), before + 20)
    local c = client.connect()
    c:send("POST " .. UPLOAD .. " HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=X\r\n"
           .. "Content-Length: 300000\r\n\r\n--X\r\n")
    c:close()
    check.status(client.get "/health", 200)
    check.equal(kept(), before + 20)
  end },
}
