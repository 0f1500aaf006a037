import {
  AdminError,
  type Administration,
  type AdminEvent,
  type AdminTask,
  type ListedImage,
} from '../admin/admin.js';
import type { Display } from './display.js';
import { exit, exitCodeOf, type ExitCode } from './exit-codes.js';
import { imageHeader, imageLine, removedLine, summaryText } from './render.js';

export interface TaskView {
  /** `ls`: for programs. */
  readonly json?: boolean;
  /** Removals are not listed. */
  readonly quiet?: boolean;
}

/** Has a task done, shows what is told of it, and returns how it ended. Throws what the signal was aborted with. */
export async function runTask(
  administration: Administration,
  task: AdminTask,
  display: Display,
  view: TaskView,
  signal: AbortSignal,
): Promise<ExitCode> {
  const shown = new ShownTask(task, display, view);
  try {
    for await (const event of administration.run(task, signal)) await shown.event(event);
    return shown.code;
  } catch (error) {
    if (!(error instanceof AdminError) || signal.aborted) throw error;
    display.note(`cistern: ${error.message}`);
    return exitCodeOf(error.code);
  } finally {
    display.end();
  }
}

class ShownTask {
  #images = 0;
  #problems = 0;
  #code: ExitCode = exit.failed;

  constructor(
    private readonly task: AdminTask,
    private readonly display: Display,
    private readonly view: TaskView,
  ) {}

  get code(): ExitCode {
    return this.#code;
  }

  async event(event: AdminEvent): Promise<void> {
    switch (event.type) {
      case 'progress':
        this.display.progress(event);
        return;
      case 'removed':
        if (this.view.quiet !== true) await this.display.result(removedLine(event, this.#dryRun));
        return;
      case 'image':
        await this.#image(event);
        return;
      case 'refreshed':
        await this.display.result(`${event.image} is ${event.moved ? 'now' : 'still'} ${event.digest}`);
        return;
      case 'problem':
        this.#problems += 1;
        this.display.note(`${event.subject}: ${event.message}`);
        return;
      case 'error':
        this.display.note(`cistern: ${event.message}`);
        this.#code = exitCodeOf(event.code);
        return;
      case 'result':
        await this.#end(event.summary);
    }
  }

  get #dryRun(): boolean {
    return 'dryRun' in this.task && this.task.dryRun;
  }

  async #image({ repository, tag, digest, bytes, lastUsed }: ListedImage): Promise<void> {
    const image = { repository, tag, digest, bytes, lastUsed };
    const first = this.#images === 0;
    this.#images += 1;
    if (this.view.json === true) {
      await this.display.result(`${first ? '[' : ','}${JSON.stringify(image)}`);
      return;
    }
    if (first) await this.display.result(imageHeader);
    await this.display.result(imageLine(image));
  }

  async #end(summary: Readonly<Record<string, number>>): Promise<void> {
    switch (this.task.task) {
      case 'images':
        if (this.view.json === true) await this.display.result(this.#images === 0 ? '[]' : ']');
        this.#code = exit.done;
        return;
      case 'refresh':
        this.#code = exit.done;
        return;
      case 'verify':
        this.display.note(`verified: ${summaryText(summary)}`);
        this.#code = this.#problems > 0 || (summary['rotten'] ?? 0) > 0 ? exit.unsound : exit.done;
        return;
      default:
        this.display.note(`${this.#dryRun ? 'would do' : 'done'}: ${summaryText(summary)}`);
        this.#code = this.#problems > 0 ? exit.failed : exit.done;
    }
  }
}
