import { pino } from 'pino';
import { expect, it } from 'vitest';
import { Metrics } from '../telemetry/metrics.js';
import { Access } from './access.js';
import { ClientGone, type Exchange } from './exchange.js';

it.each([
  [200, 499],
  [404, 404],
  [503, 503],
])('logs and counts an answer of status %i whose client leaves with %i', async (status, expected) => {
  const lines: string[] = [];
  const metrics = new Metrics();
  const access = new Access(metrics, pino({}, { write: (line) => lines.push(line) }), true);
  const exchange: Partial<Exchange> = {
    request: { method: 'GET', headers: {}, socket: {} } as never,
    response: { statusCode: status, writableFinished: false } as never,
    handler: 'blob',
    failure: new ClientGone(),
  };
  access.end(exchange as Exchange);
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    expect.objectContaining({ 'http.response.status': expected, msg: 'client left' }),
  ]);
  const text = await metrics.registry.metrics();
  expect(text).toContain(`registry_http_requests_total{handler="blob",method="get",code="${expected}"} 1`);
});
