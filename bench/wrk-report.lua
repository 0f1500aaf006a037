-- What wrk measured, as one line of JSON; its own summary rounds.
function done(summary)
  local errors = summary.errors
  io.write(string.format('REPORT {"requests":%d,"bytes":%d,"microseconds":%d,"errors":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
