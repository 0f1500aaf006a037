import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { AdminCode } from './admin.js';
import { toAdminError } from './failures.js';

const statuses: Readonly<Record<AdminCode, number>> = {
  invalid: 400,
  unauthorized: 401,
  unknown: 404,
  busy: 409,
  unavailable: 503,
  upstream: 502,
  storage: 503,
  failed: 500,
};

/** Every refusal in one form. */
@Catch()
export class AdminFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (error instanceof HttpException) {
      void reply.code(error.getStatus()).send({ error: { code: 'unknown', message: error.message } });
      return;
    }
    if (reply.raw.headersSent) {
      // The answer breaks off rather than end as if it were whole.
      reply.raw.destroy();
      return;
    }
    const { code, message } = toAdminError(error);
    if (code === 'unauthorized') reply.header('WWW-Authenticate', 'Bearer realm="cistern"');
    void reply.code(statuses[code]).send({ error: { code, message } });
  }
}
