/** What went wrong with the API of Kubernetes. Nothing in it is a secret. */
export type KubernetesCode =
  | 'config' // neither kubeconfig nor service account say how to reach it, or who we are
  | 'unreachable' // no connection, no answer in time, or an answer that broke off
  | 'unauthorized' // 401: it does not know us
  | 'forbidden' // 403: it does not let us
  | 'gone' // 410: what was to be gone on with is too old
  | 'refused' // any other status
  | 'invalid'; // an answer that is not what the API promises

export class KubernetesError extends Error {
  override readonly name = 'KubernetesError';
  constructor(
    readonly code: KubernetesCode,
    message: string,
    /** Of the answer, where there was one. */
    readonly status?: number,
  ) {
    super(message);
  }
}

export type Query = Readonly<Record<string, string>>;

/** Which cluster it is, and where in it we are. */
export interface KubernetesPlace {
  /** Tells clusters apart: from where the API is and whom it is vouched for by. */
  readonly cluster: string;
  /** Of the Pod, or of the kubeconfig's context. */
  readonly namespace: string;
}

/** The API of Kubernetes, as far as it is read here. All of it throws KubernetesError, or the signal's reason. */
export interface KubernetesApi {
  place(): Promise<KubernetesPlace>;
  /** One object, or a page of a list. */
  get(path: string, query: Query, signal: AbortSignal): Promise<unknown>;
  /** What a watch tells, until the server ends it; what is cut off in the middle of an event is left out. */
  watch(path: string, query: Query, signal: AbortSignal): AsyncIterable<unknown>;
}
