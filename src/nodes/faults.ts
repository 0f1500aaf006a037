export type NodeCode =
  /** The mirror does not answer. */
  | 'mirror-unreachable'
  /** It wants to know who asks. */
  | 'mirror-login'
  /** Whatever answers is no mirror of this kind. */
  | 'mirror-answer'
  /** A file of the node is not what its program would read. */
  | 'unreadable'
  /** A file is not as it was left. */
  | 'edited'
  /** A file leads out of the node's root. */
  | 'outside'
  /** A file cannot be read or written. */
  | 'system'
  /** An argument is not what it has to be. */
  | 'argument';

/** Why a node cannot be configured. The message says it to people. */
export class NodeError extends Error {
  override readonly name = 'NodeError';
  constructor(
    readonly code: NodeCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
