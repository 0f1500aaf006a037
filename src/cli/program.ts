import { Command, CommanderError } from 'commander';
import type { AdminTask } from '../admin/admin.js';
import type { NodeArguments } from './configure-node.js';
import type { DoctorArguments } from './doctor.js';
import { exit, type ExitCode } from './exit-codes.js';
import type { TaskView } from './run-task.js';

/** What the command line asks for. */
export type Invocation =
  | { readonly kind: 'serve'; readonly config: string | undefined }
  | {
      readonly kind: 'task';
      readonly config: string | undefined;
      readonly task: AdminTask;
      readonly view: TaskView;
    }
  | { readonly kind: 'jobs'; readonly config: string | undefined; readonly json: boolean }
  | { readonly kind: 'token'; readonly config: string | undefined }
  | { readonly kind: 'configure-node'; readonly node: NodeArguments }
  | { readonly kind: 'doctor'; readonly config: string | undefined; readonly doctor: DoctorArguments }
  | { readonly kind: 'healthcheck'; readonly config: string | undefined }
  /** All is said: help, or what is wrong. */
  | { readonly kind: 'said'; readonly code: ExitCode };

export interface Said {
  out(text: string): void;
  err(text: string): void;
}

interface Common {
  readonly config?: string;
  readonly json?: true;
  readonly dryRun?: true;
  readonly deleteUntagged?: true;
  readonly quiet?: true;
  readonly all?: true;
  readonly platform?: readonly string[];
}

const places = `
Without a file: $REGISTRY_CONFIGURATION_PATH, /etc/docker/registry/config.yml,
/etc/distribution/config.yml, then the configuration that comes with the program.
`;

/** Reads the arguments after the program's name. */
export function readCommandLine(args: readonly string[], said: Said): Invocation {
  let invocation: Invocation | undefined;
  const program = newProgram((read) => (invocation = read), said);
  try {
    program.parse(
      args.map(plainFlag).filter((arg) => arg !== undefined),
      { from: 'user' },
    );
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return { kind: 'said', code: error.exitCode === 0 ? exit.done : exit.misused };
  }
  return invocation ?? { kind: 'said', code: exit.misused };
}

/** registry's flags may be written `--dry-run=true`. */
function plainFlag(arg: string): string | undefined {
  const [, flag, value] = /^(--(?:dry-run|delete-untagged|quiet))=(true|false|1|0)$/.exec(arg) ?? [];
  if (flag === undefined) return arg;
  return value === 'true' || value === '1' ? flag : undefined;
}

function newProgram(read: (invocation: Invocation) => void, { out, err }: Said): Command {
  const program = new Command('cistern')
    .description('A clustered pull-through mirror for container images.')
    .configureOutput({ writeOut: out, writeErr: err })
    .exitOverride()
    .helpCommand('help [command]', 'what a command does');
  const command = (name: string, description: string): Command =>
    program.command(name).description(description).addHelpText('after', places);
  const withConfig = (name: string, description: string): Command =>
    command(name, description).option('-c, --config <file>', 'the configuration of the mirror');
  const task = (options: Common, asked: AdminTask, view: TaskView = {}): void =>
    read({ kind: 'task', config: options.config, task: asked, view });

  command('serve [config.yml]', 'run the mirror').action((config?: string) =>
    read({ kind: 'serve', config }),
  );
  command('healthcheck [config.yml]', 'whether the mirror of this machine is alive').action(
    (config?: string) => read({ kind: 'healthcheck', config }),
  );
  withConfig('ls', 'list the images that are stored')
    .option('--json', 'as JSON')
    .action((options: Common) => task(options, { task: 'images' }, { json: options.json === true }));
  withConfig('jobs', 'what the scheduler has done, does and will do')
    .option('--json', 'as JSON')
    .action(({ config, json }: Common) => read({ kind: 'jobs', config, json: json === true }));
  withConfig('gc', 'remove what has expired, is too much, or is referred to by nothing')
    .option('-d, --dry-run', 'only say what would be removed')
    .option('-m, --delete-untagged', 'also manifests that no tag leads to')
    .action((options: Common) => task(options, collecting(options)));
  withConfig('verify [image]', 'read all content, or an image, again; drop what has rotted')
    .option('-d, --dry-run', 'only say what would be dropped')
    .action((image: string | undefined, options: Common) =>
      task(options, { task: 'verify', dryRun: options.dryRun === true, image }),
    );
  withConfig('prewarm <image...>', 'fetch images before anybody asks for them')
    .option('--platform <platform...>', 'only for these, such as linux/amd64')
    .action((images: string[], options: Common) =>
      task(options, { task: 'prewarm', images, platforms: options.platform ?? [] }),
    );
  withConfig('purge <image>', 'forget an image; what only it refers to goes with the next runs of gc')
    .option('-a, --all', 'all tags and manifests of its repository')
    .option('-d, --dry-run', 'only say what would be removed')
    .action((image: string, options: Common) =>
      task(options, { task: 'purge', dryRun: options.dryRun === true, all: options.all === true, image }),
    );
  withConfig('refresh <image>', "ask the upstream now where an image's tag points").action(
    (image: string, options: Common) => task(options, { task: 'refresh', image }),
  );
  withConfig('token', 'print the token of the admin API').action(({ config }: Common) =>
    read({ kind: 'token', config }),
  );
  addNodeCommands(program, read);
  command('garbage-collect [config.yml]', "gc, as registry's command line has it")
    .option('-d, --dry-run', 'only say what would be removed')
    .option('-m, --delete-untagged', 'also manifests that no tag leads to')
    .option('-q, --quiet', 'say nothing of what is removed')
    .action((config: string | undefined, options: Common) =>
      read({ kind: 'task', config, task: collecting(options), view: { quiet: options.quiet === true } }),
    );
  return program;
}

/** Those of machines that pull, and of whatever is wrong. */
function addNodeCommands(program: Command, read: (invocation: Invocation) => void): void {
  program
    .command('configure-node')
    .description("make this machine's dockerd, containerd, CRI-O and podman pull through a mirror")
    .option('--mirror <url>', 'where the mirror is: https://mirror.example.com')
    .option('--ca <file>', "the authority of the mirror's certificate, where it is not a public one")
    .option('--upstream <host...>', 'the registries to mirror; without it the mirror is asked')
    .option('--runtime <name...>', 'docker, containerd, crio, podman; without it those that are here')
    .option('--root <folder>', "where the machine's disk is mounted", '/')
    .option('--no-fallback', 'nobody but the mirror is asked')
    .option('--set-config-path', "also in containerd's own configuration")
    .option('-d, --dry-run', 'only show what would be changed')
    .option('--undo', 'put everything back as it was')
    .option('--force', 'with --undo: also what was edited since')
    .option('--json', 'as JSON')
    .action((node: NodeArguments) => read({ kind: 'configure-node', node }));
  program
    .command('doctor')
    .description('look for what is wrong with a mirror, or with a machine that should pull through it')
    .option('-c, --config <file>', 'the configuration of the mirror')
    .option('--node', 'look at this machine as a client')
    .option('--mirror <url>', 'with --node: where the mirror is, where no file says it')
    .option('--ca <file>', "with --node: the authority of the mirror's certificate")
    .option('--root <folder>', "with --node: where the machine's disk is mounted", '/')
    .option(
      '--pull <image>',
      'with --node: pull this image with a client that is here, and see the mirror count it',
    )
    .option('--metrics <url>', "with --pull: the mirror's metrics, http://mirror:5001/metrics")
    .option('--json', 'as JSON')
    .addHelpText('after', places)
    .action(({ config, ...doctor }: DoctorArguments & Common) => read({ kind: 'doctor', config, doctor }));
}

function collecting({ dryRun, deleteUntagged }: Common): AdminTask {
  return { task: 'gc', dryRun: dryRun === true, untagged: deleteUntagged === true };
}
