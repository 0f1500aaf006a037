import type { Reporter, TestModule } from 'vitest/node';
import { has, missingPackages } from './debian.js';

/** Ends a run by saying aloud what was left out and what would bring it in: a green run must not hide a gap. */
export class LeftOutReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    // Who asks for tests by name has left the others out himself.
    if (modules.some(({ project }) => project.vitest.config.testNamePattern !== undefined)) return;
    const skipped = modules
      .map((module) => ({ file: module.relativeModuleId, count: countSkipped(module) }))
      .filter(({ count }) => count > 0);
    if (skipped.length === 0) return;
    const total = skipped.reduce((sum, { count }) => sum + count, 0);
    const lines = [
      `LEFT OUT: ${total} tests (${reasons().join('; ')})`,
      ...skipped.map(({ file, count }) => `  ${file}: ${count}`),
    ];
    process.stdout.write(`\n${lines.join('\n')}\n`);
  }
}

function countSkipped(module: TestModule): number {
  return [...module.children.allTests('skipped')].length;
}

function reasons(): string[] {
  const packages = missingPackages();
  const found = [
    ...(packages.length === 0 ? [] : [`not installed here: apt-get install ${packages.join(' ')}`]),
    ...(has('root') ? [] : ['not root, which containerd and dockerd need']),
  ];
  return found.length === 0 ? ['skipped in the tests themselves'] : found;
}
