--- The life of an order: one table says all.

local money = require "omade.money"

local orders = {}

--- From a status to those that may follow.  How: `fulfilment` limits it to one kind;
-- `by` names who may do it by PATCH /status and its kin ("staff" is staff and admin).
-- `refunded` is reached by /refund and the provider's webhook only.
orders.TRANSITIONS = {
  pending    = { confirmed = {}, cancelled = { owner = true } },
  confirmed  = { preparing = {}, cancelled = { owner = true } },
  preparing  = { dispatched = { fulfilment = "delivery" }, ready = { fulfilment = "pickup" }, cancelled = {} },
  ready      = { delivered = {}, cancelled = {} },
  dispatched = { delivered = {}, preparing = {}, cancelled = {} },
  delivered  = {},
  cancelled  = {},
  refunded   = {},
}

orders.STATUSES = { "pending", "confirmed", "preparing", "ready", "dispatched", "delivered", "cancelled", "refunded" }

--- What PATCH /status takes: all but refunded.
orders.SETTABLE = { "confirmed", "preparing", "ready", "dispatched", "delivered", "cancelled" }

orders.PAYMENT_TRANSITIONS = {
  pending  = { paid = true, failed = true },
  failed   = { pending = true, paid = true },
  paid     = {},
  refunded = {},
}

orders.PAYMENT_STATUSES = { "pending", "paid", "failed", "refunded" }
orders.PAYMENT_METHODS  = { "cash", "card_on_delivery", "bank_transfer", "online" }

local PAID_AT_THE_DOOR <const> = { cash = true, card_on_delivery = true }

--- Whether nothing is to be paid: points paid for all of it.
---@param order {total_amount: omade.decimal}
---@return boolean
function orders.is_free(order) return order.total_amount:money() == money "0" end

--- Whether an order counts as paid when it is handed over.
---@param order {payment_method: string, total_amount: omade.decimal}
---@return boolean
function orders.paid_by_delivery(order)
  return PAID_AT_THE_DOOR[order.payment_method] == true or orders.is_free(order)
end

--- Whether an order may go on to a status.
---@param order {status: string, fulfilment: string}
---@param to string
---@return boolean
function orders.may_become(order, to)
  local step = orders.TRANSITIONS[order.status][to]
  return step ~= nil and (step.fulfilment == nil or step.fulfilment == order.fulfilment)
end

--- Whether its buyer may cancel it.
---@param order {status: string}
---@return boolean
function orders.owner_may_cancel(order)
  local step = orders.TRANSITIONS[order.status].cancelled
  return step ~= nil and step.owner == true
end

--- Whether money may be given back: it was paid, and the goods are not on their way.
---@param order {status: string, payment_status: string}
---@return boolean
function orders.refundable(order)
  return order.payment_status == "paid" and (order.status == "delivered" or order.status == "cancelled")
end

return orders
