import { Controller, Get, Inject, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { RegistryError } from '../registry/errors.js';
import { Limits } from '../registry/limits.js';
import { Guide } from './guide.js';
import type { MirrorAddress } from './hosts.js';
import { htmlPage, plainPage, sectionsFor } from './page.js';

interface Asked {
  readonly mirror: MirrorAddress;
  readonly registries: readonly string[];
}

/** The public port's page for whoever sets up machines that pull, and the same for `configure-node`. */
@Controller()
export class NodesController {
  constructor(
    @Inject(Guide) private readonly guide: Guide,
    @Inject(Limits) private readonly limits: Limits,
  ) {}

  @Get('nodes')
  async page(@Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.#answer(request, reply, ({ mirror, registries }) => {
      const sections = sectionsFor(mirror, registries);
      reply.header('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'");
      const html = request.headers.accept?.includes('text/html') === true;
      reply.type(html ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8');
      return html ? htmlPage(mirror, sections) : plainPage(mirror, sections);
    });
  }

  @Get('nodes.json')
  async list(@Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.#answer(request, reply, ({ mirror, registries }) => ({
      mirror: mirror.url,
      upstreams: registries.map((host) => ({ host })),
    }));
  }

  async #answer(
    { raw }: FastifyRequest,
    reply: FastifyReply,
    content: (asked: Asked) => string | object,
  ): Promise<void> {
    const leaving = new AbortController();
    reply.raw.once('close', () => leaving.abort());
    // A password may be tried here as well as at /v2/.
    reply.headers({ 'Cache-Control': 'no-store', Vary: 'Accept', 'X-Content-Type-Options': 'nosniff' });
    try {
      this.limits.check({ request: raw }, undefined);
      this.limits.hold({ request: raw, response: reply.raw });
      const mirror = this.guide.addressOf(raw);
      if (mirror === undefined) {
        await reply.code(400).type('text/plain; charset=utf-8').send('the Host header is not a host\n');
        return;
      }
      await reply.send(
        content({
          mirror,
          registries: await this.guide.registriesFor({ request: raw, signal: leaving.signal }),
        }),
      );
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      reply.type('application/json; charset=utf-8').headers(error.headers);
      await reply.code(error.status).send(error.body);
    }
  }
}
