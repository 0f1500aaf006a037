import {
  Controller,
  Get,
  Header,
  Inject,
  Param,
  Post,
  Query,
  Res,
  UseFilters,
  UseGuards,
} from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AdminAccess } from './access.js';
import { AdminError, isJobName, type Administration, type AdminTask, type ListedJob } from './admin.js';
import { AdminFilter } from './admin.filter.js';
import { sendEvents } from './event-reply.js';
import { openApi } from './open-api.js';

export const ADMINISTRATION = Symbol('Administration');

/** Lets in who has the token; the description of the API is for all. */
class TokenGuard implements CanActivate {
  constructor(@Inject(AdminAccess) private readonly access: AdminAccess) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { headers } = context.switchToHttp().getRequest<FastifyRequest>();
    if (await this.access.admits(headers.authorization)) return true;
    throw new AdminError('unauthorized', 'the token of this storage is needed: `cistern token` prints it');
  }
}

type Parameters = Readonly<Record<string, string | string[] | undefined>>;

/** What docs/openapi.yaml describes. */
@Controller('admin/v1')
@UseFilters(AdminFilter)
export class OpenApiController {
  @Get('openapi.yaml')
  @Header('Content-Type', 'application/yaml; charset=utf-8')
  description(): string {
    return openApi();
  }
}

/** What docs/openapi.yaml describes. */
@Controller('admin/v1')
@UseFilters(AdminFilter)
@UseGuards(TokenGuard)
export class AdminController {
  constructor(@Inject(ADMINISTRATION) private readonly administration: Administration) {}

  @Get('jobs')
  async jobs(): Promise<{ jobs: readonly ListedJob[] }> {
    return { jobs: await this.administration.jobs(AbortSignal.timeout(listMs)) };
  }

  @Post('jobs/:name/runs')
  async job(
    @Param('name') name: string,
    @Query() query: Parameters,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    if (!isJobName(name))
      throw new AdminError('unknown', `there is no job ${JSON.stringify(name.slice(0, 64))}`);
    await this.#send(reply, { task: 'run', job: name, dryRun: flag(query, 'dryRun') });
  }

  @Get('images')
  async images(@Res() reply: FastifyReply): Promise<void> {
    await this.#send(reply, { task: 'images' });
  }

  @Post('gc')
  async gc(@Query() query: Parameters, @Res() reply: FastifyReply): Promise<void> {
    await this.#send(reply, { task: 'gc', dryRun: flag(query, 'dryRun'), untagged: flag(query, 'untagged') });
  }

  @Post('verify')
  async verify(@Query() query: Parameters, @Res() reply: FastifyReply): Promise<void> {
    await this.#send(reply, { task: 'verify', dryRun: flag(query, 'dryRun'), image: all(query, 'image')[0] });
  }

  @Post('prewarm')
  async prewarm(@Query() query: Parameters, @Res() reply: FastifyReply): Promise<void> {
    const [images, platforms] = [all(query, 'image'), all(query, 'platform')];
    await this.#send(reply, { task: 'prewarm', images, platforms });
  }

  @Post('purge')
  async purge(@Query() query: Parameters, @Res() reply: FastifyReply): Promise<void> {
    const task = { task: 'purge', dryRun: flag(query, 'dryRun'), all: flag(query, 'all') } as const;
    await this.#send(reply, { ...task, image: image(query) });
  }

  @Post('refresh')
  async refresh(@Query() query: Parameters, @Res() reply: FastifyReply): Promise<void> {
    await this.#send(reply, { task: 'refresh', image: image(query) });
  }

  async #send(reply: FastifyReply, task: AdminTask): Promise<void> {
    await sendEvents(reply.raw, (signal) => this.administration.run(task, signal));
    reply.hijack(); // it is answered
  }
}

const listMs = 10_000;

function all(query: Parameters, name: string): string[] {
  const values = query[name];
  return values === undefined ? [] : [values].flat();
}

function image(query: Parameters): string {
  const [first] = all(query, 'image');
  if (first === undefined) throw new AdminError('invalid', 'no image is named');
  return first;
}

function flag(query: Parameters, name: string): boolean {
  const [text = 'false'] = all(query, name);
  if (text !== 'true' && text !== 'false') throw new AdminError('invalid', `${name} is true or false`);
  return text === 'true';
}
