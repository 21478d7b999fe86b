-- The sender: one signed push again and again, each with a delivery id of its own.
-- Environment: PAYLOAD (file), SIGNATURE and SIGNATURE_SHA1 (hex); PAUSE_MS: rest after each answer, for a steady pace;
-- PATHS (file): paths to send to in turn, one a line, instead of the one of the URL.

local ID = "@delivery@"
local before_id, after_id -- the bytes of the request around its delivery id
local paths = {}
local prefix -- random, one a thread
local sent = 0

function init()
  local body = assert(io.open(os.getenv("PAYLOAD"), "rb")):read("*a")
  local request = wrk.format("POST", nil, {
    ["Host"] = wrk.host .. ":" .. wrk.port,
    ["User-Agent"] = "GitHub-Hookshot/044aadd",
    ["Accept"] = "*/*",
    ["Content-Type"] = "application/json",
    ["X-GitHub-Delivery"] = ID,
    ["X-GitHub-Event"] = "push",
    ["X-GitHub-Hook-ID"] = "292430182",
    ["X-GitHub-Hook-Installation-Target-ID"] = "186853002",
    ["X-GitHub-Hook-Installation-Target-Type"] = "repository",
    ["X-Hub-Signature"] = "sha1=" .. os.getenv("SIGNATURE_SHA1"),
    ["X-Hub-Signature-256"] = "sha256=" .. os.getenv("SIGNATURE"),
  }, body)
  local from, to = request:find(ID, 1, true)
  before_id, after_id = request:sub(1, from - 1), request:sub(to + 1)

  if os.getenv("PATHS") then
    local first = #("POST " .. wrk.path)
    before_id = before_id:sub(first + 1)
    for path in io.lines(os.getenv("PATHS")) do
      paths[#paths + 1] = "POST " .. path
    end
  end

  local random = assert(io.open("/dev/urandom", "rb")):read(8)
  local hex = random:gsub(".", function(byte) return string.format("%02x", byte:byte()) end)
  prefix = string.format("%s-%s-%s-%s-", hex:sub(1, 8), hex:sub(9, 12), hex:sub(13, 16), "8000")
end

function request()
  sent = sent + 1
  return (paths[1 + sent % math.max(1, #paths)] or "") .. before_id .. prefix .. string.format("%012x", sent) .. after_id
end

if os.getenv("PAUSE_MS") then
  function delay()
    return tonumber(os.getenv("PAUSE_MS"))
  end
end

-- One line for `run`: answers, µs, p50 µs, p99 µs, answers of 400 and above, socket errors.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("result\t%d\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
