import { Controller, Get, HttpCode, Inject, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { Health } from './health.js';

/** For load balancers and orchestrators, without authentication: `/` and `/healthz` say alive, `/readyz` ready. */
@Controller()
export class ProbesController {
  constructor(@Inject(Health) private readonly health: Health) {}

  @Get()
  @HttpCode(200)
  root(): string {
    return '';
  }

  @Get('healthz')
  @HttpCode(200)
  alive(): string {
    return 'ok\n';
  }

  @Get('readyz')
  async ready(@Res() reply: FastifyReply): Promise<void> {
    const reasons = this.health.notReady();
    await (reasons === undefined ? reply.code(200).send('ok\n') : reply.code(503).send(reasons));
  }
}
