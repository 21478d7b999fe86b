-- A sender who takes breath: each connection waits a moment after every answer, so that latency is the receiver's own.
-- Environment: PAYLOAD (file), PATHS (one or more, separated by spaces, in turn), PAUSE_MS.

local requests, pause, sent = {}, tonumber(os.getenv("PAUSE_MS")), 0

function init()
  local body = assert(io.open(os.getenv("PAYLOAD"), "rb")):read("*a")
  for path in os.getenv("PATHS"):gmatch("%S+") do
    requests[#requests + 1] = wrk.format("POST", path, {
      ["Host"] = wrk.host .. ":" .. wrk.port,
      ["Content-Type"] = "application/json",
    }, body)
  end
end

function delay()
  return pause
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

-- One line for `mappers`: answers, µs, p50 µs, p99 µs, answers of 400 and above, socket errors.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("result\t%d\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
