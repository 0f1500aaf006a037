import { Controller, Get, Header, Headers, Inject, Res, type Type } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { Metrics } from '../telemetry/metrics.js';
import { Health } from './health.js';
import { statusPage } from './status-page.js';
import { StatusReport } from './status.js';

/** registry's `/debug/health`: `{}`, or 503 with what fails. */
@Controller('debug/health')
export class DebugHealthController {
  constructor(@Inject(Health) private readonly health: Health) {}

  @Get()
  async checks(@Res() reply: FastifyReply): Promise<void> {
    const failing = this.health.failing();
    await reply.code(Object.keys(failing).length === 0 ? 200 : 503).send(failing);
  }
}

/** This replica for whoever is on call: JSON, or a page for browsers. */
@Controller('debug/status')
export class StatusController {
  constructor(@Inject(StatusReport) private readonly report: StatusReport) {}

  @Get()
  async status(@Headers('accept') accept: string | undefined, @Res() reply: FastifyReply): Promise<void> {
    const status = await this.report.read();
    const isBrowser = accept?.includes('text/html') === true;
    await reply
      .header('Cache-Control', 'no-store')
      .type(isBrowser ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8')
      .send(isBrowser ? statusPage(status) : `${JSON.stringify(status, undefined, 2)}\n`);
  }
}

/** Prometheus' text format, at the path that the configuration gives. */
export function metricsController(path: string): Type {
  @Controller(path)
  class MetricsController {
    constructor(@Inject(Metrics) private readonly metrics: Metrics) {}

    @Get()
    @Header('Content-Type', 'text/plain; version=0.0.4; charset=utf-8')
    text(): Promise<string> {
      return this.metrics.registry.metrics();
    }
  }
  return MetricsController;
}
