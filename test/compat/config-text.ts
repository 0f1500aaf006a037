import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { ConfigError, type ConfigFault, type ConfigNote } from '../../src/config/faults.js';
import { loadConfig, type LoadedConfig } from '../../src/config/load.js';

/** The least that starts. */
export const minimal = 'version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n';

export interface Outcome {
  readonly faults: readonly ConfigFault[];
  readonly warnings: readonly ConfigNote[];
}

/** Loads configurations from texts, through a file in a folder of the test file's own. */
export class ConfigTexts {
  readonly folder = mkdtempSync(join(tmpdir(), 'cistern-config-'));

  constructor() {
    afterAll(() => rmSync(this.folder, { recursive: true }));
  }

  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  load(yaml: string, env: NodeJS.ProcessEnv = {}): LoadedConfig {
    return loadConfig({ path: this.file('config.yml', yaml), env, cwd: this.folder });
  }

  /** What there is to say of it, whether it loads or not. */
  outcome(yaml: string, env: NodeJS.ProcessEnv = {}): Outcome {
    try {
      return { faults: [], warnings: this.load(yaml, env).warnings };
    } catch (error) {
      if (error instanceof ConfigError) return { faults: error.faults, warnings: [] };
      throw error;
    }
  }

  failure(yaml: string, env: NodeJS.ProcessEnv = {}): ConfigError {
    try {
      this.load(yaml, env);
    } catch (error) {
      if (error instanceof ConfigError) return error;
      throw error;
    }
    throw new Error('it loaded, though it should not');
  }

  faultyKeys(yaml: string, env: NodeJS.ProcessEnv = {}): string[] {
    return this.failure(yaml, env).faults.map(({ key }) => key);
  }

  warnedKeys(yaml: string, env: NodeJS.ProcessEnv = {}): string[] {
    return this.load(yaml, env).warnings.map(({ key }) => key);
  }
}
