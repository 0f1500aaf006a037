import { execFile, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { commandOf, has } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';

/** The newest that the Go of Debian 12 can build. */
const version = 'v3.13.3';
const folder = fileURLToPath(new URL(`../../node_modules/.cache/helm-${version}`, import.meta.url));
const chart = fileURLToPath(new URL('../../helm/cistern', import.meta.url));

/** What these tests look at of an object; its schema says the rest. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** What helm did; `text` is what it wrote to standard output, or to standard error where it failed. */
export interface Outcome {
  readonly done: boolean;
  readonly text: string;
}

export class Helm {
  constructor(private readonly command: string) {}

  /** Runs it with values; a release `mirror` in the namespace `mirrors`. */
  private run(args: readonly string[], values: unknown): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const child = execFile(this.command, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') reject(error);
        else resolve({ done: error === null, text: error === null ? stdout : stderr });
      });
      child.stdin?.end(JSON.stringify(values));
    });
  }

  template(values: unknown, from = chart, further: readonly string[] = []): Promise<Outcome> {
    const args = ['template', 'mirror', from, '--namespace', 'mirrors', '--kube-version', '1.27.0'];
    return this.run([...args, ...further, '--values', '-'], values);
  }

  async render(values: unknown): Promise<KubernetesObject[]> {
    const { done, text } = await this.template(values);
    if (!done) throw new Error(text);
    return parseAllDocuments(text)
      .map((document) => {
        if (document.errors.length > 0) throw new Error(`${document.errors.join('\n')}\n${text}`);
        return document.toJSON() as KubernetesObject | null;
      })
      .filter((object) => object !== null);
  }

  lint(values: unknown): Promise<Outcome> {
    return this.run(['lint', '--strict', chart, '--values', '-'], values);
  }

  /** What is said after an installation. Helm itself says it to those alone who have a cluster. */
  async notes(values: unknown): Promise<string> {
    await using folder = await temporaryFolder();
    await cp(chart, folder.path, { recursive: true });
    const template = 'notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}\n';
    await writeFile(join(folder.path, 'templates', 'notes.yaml'), template);
    const { text } = await this.template(values, folder.path, ['--show-only', 'templates/notes.yaml']);
    const { notes } = parse(text) as { notes: string };
    return notes;
  }
}

/**
 * Helm, built from its source the first time: Debian has no package of it. `undefined` where Go is not installed or
 * Helm's source cannot be had, which is said aloud.
 */
export function findHelm(): Helm | undefined {
  const command = `${folder}/helm`;
  if (isExecutable(command)) return new Helm(command);
  if (!has('go')) return undefined;
  process.stderr.write(`building helm ${version}, once: a few minutes\n`);
  mkdirSync(folder, { recursive: true });
  const args = ['install', '-trimpath', '-ldflags=-s -w', `helm.sh/helm/v3/cmd/helm@${version}`];
  const env = { ...process.env, GOBIN: folder, CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false' };
  const { status, stderr } = spawnSync(commandOf('go'), args, { env, encoding: 'utf8' });
  if (status === 0) return new Helm(command);
  process.stderr.write(`LEFT OUT: the chart, since helm cannot be built: ${stderr.trim().slice(-500)}\n`);
  return undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
