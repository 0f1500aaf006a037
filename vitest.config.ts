import { defineConfig } from 'vitest/config';
import { LeftOutReporter } from './test/parts/left-out-reporter.js';
import { patienceMs, testPatienceMs } from './test/parts/patience.js';

const patient = {
  testTimeout: testPatienceMs,
  hookTimeout: testPatienceMs,
  expect: { poll: { timeout: patienceMs } },
};

/** Tests with real servers and clients. */
const real = {
  setupFiles: ['test/parts/setup.ts'],
  ...patient,
};

/** Fewer files at a time: each keeps a small machine busy by itself. */
const heavy = ['cluster', 'guides', 'image', 'swarm'].map((folder) => `test/${folder}/**/*.test.ts`);

/**
 * `unit` needs neither network nor Debian packages and runs in seconds; `integration` and
 * `cluster` start real servers and clients on loopback. A test that waits for something that never comes fails by these limits; none is repeated.
 */
export default defineConfig({
  test: {
    reporters: ['default', new LeftOutReporter()],
    retry: 0,
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'src/**/*.spec.ts',
            'test/**/*.spec.ts',
            'test/architecture.test.ts',
            'test/catalogue.test.ts',
          ],
          ...patient,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...real,
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: ['test/architecture.test.ts', 'test/catalogue.test.ts', ...heavy],
          maxWorkers: 4, // each waits for others more than half of its time
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...real,
          name: 'cluster',
          include: heavy,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
