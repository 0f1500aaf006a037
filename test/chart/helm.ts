import { execFile } from 'node:child_process';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { helmCommand } from '../../scripts/helm.js';
import { temporaryFolder } from '../parts/folder.js';

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

/** `undefined` where `npm test` could not build it, which it says aloud. */
export function findHelm(): Helm | undefined {
  const command = helmCommand();
  return command === undefined ? undefined : new Helm(command);
}
