import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestFactory } from '@nestjs/core';
import type * as appModule from '../../src/app.module.js';
import type * as prepareModule from '../../src/cli/prepare-store.js';
import type * as loadModule from '../../src/config/load.js';
import type { JobRun, JobSummary } from '../../src/scheduler/job.js';
import type * as schedulerModule from '../../src/scheduler/scheduler.js';
import type * as logModule from '../../src/telemetry/log.js';

/**
 * A replica without ports, whose sweep is a job of numbered steps: it writes what it does into a file that all
 * replicas share. `node job-process.ts CONFIG LEDGER STEPS STEP_MS`, after a build.
 */
const [configFile = '', ledger = '', steps = '', stepMs = ''] = process.argv.slice(2);

const built = (name: string) => new URL(`../../dist/${name}.js`, import.meta.url).href;
const { AppModule } = (await import(built('app.module'))) as typeof appModule;
const { prepareStore } = (await import(built('cli/prepare-store'))) as typeof prepareModule;
const { loadConfig } = (await import(built('config/load'))) as typeof loadModule;
const { Scheduler } = (await import(built('scheduler/scheduler'))) as typeof schedulerModule;
const { createLogger } = (await import(built('telemetry/log'))) as typeof logModule;

const { config } = loadConfig({ path: configFile, env: {}, cwd: process.cwd() });
const log = createLogger({ level: 'debug', formatter: 'json', fields: {} });
const context = await NestFactory.createApplicationContext(AppModule.for(config, log), { logger: false });
const scheduler = context.get(Scheduler);

function note(...words: readonly (string | number | boolean | undefined)[]): void {
  appendFileSync(ledger, `${[Date.now(), process.pid, ...words].join(' ')}\n`);
}

async function run(job: JobRun): Promise<JobSummary> {
  const state = (await scheduler.jobs()).find(({ name }) => name === 'sweep');
  note('begin', state?.run?.slotMs);
  try {
    for (let next = Number(job.checkpoint ?? 0); next < Number(steps); next += 1) {
      await sleep(Number(stepMs));
      note('may', await job.mayDelete());
      note('step', next);
      await job.step(String(next + 1));
    }
  } catch (error) {
    note('stop');
    throw error;
  }
  note('end');
  return { steps: Number(steps) };
}

scheduler.register({ name: 'sweep', run });
await prepareStore(context, config, log, () => scheduler.start());
log.info('ready');
process.once('SIGTERM', () => void context.close().then(() => process.exit(0)));
