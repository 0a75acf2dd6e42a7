--- What a caller may send as a cake's configuration: for quotes, carts and orders alike.

local cakes = require "bakery.rules.cakes"
local v     = require "omade.validate"

return v.shape {
  flavor          = v.one_of(cakes.ids(cakes.FLAVORS)),
  size            = v.one_of(cakes.ids(cakes.SIZES)),
  frosting        = v.one_of(cakes.ids(cakes.FROSTINGS)),
  message         = v.text { max = 100, optional = true },
  image_reference = v.text { max = 500, pattern = "^[%w%._-]+$", optional = true,
                             message = "must be what an upload answered" },
  layers          = v.integer { min = 1, max = #cakes.LAYERS, default = 1 },
  decorations     = v.list(v.shape {
    id       = v.one_of(cakes.ids(cakes.DECORATIONS)),
    quantity = v.integer { min = 1, max = 20, default = 1 },
  }, { max = 10, optional = true }),
  dietary         = v.list(v.one_of(cakes.ids(cakes.DIETARY)), { max = 3, unique = true, optional = true }),
  instructions    = v.text { max = 300, optional = true },
}
