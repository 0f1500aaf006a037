import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { Answers } from './answers.js';
import { RequestTallies } from './request-tallies.js';
import { version } from './version.js';

const seconds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type ContentType = 'blob' | 'manifest';

/** The values of labels that alerts look at, whichever comes first. */
const types: readonly ContentType[] = ['blob', 'manifest'];
const transferResults = ['stored', 'mismatch', 'refused', 'broken', 'spool', 'store'];
const transferRoles = ['lead', 'follow', 'takeover', 'alone'];
const rangeEvents = ['begun', 'resumed', 'objected'];
const siblingResults = ['fetched', 'stored', 'refused', 'failed', 'dropped'];
const runOutcomes = ['done', 'failed', 'stopped'];

/**
 * Every metric of the program. Those named `registry_…` are registry:2's (2.8) and registry:3's own, with their
 * labels, so that existing dashboards keep working; `cistern_…` are ours. No label takes a value that clients choose.
 */
export class Metrics {
  readonly registry = new Registry();
  readonly answers = new Answers(this.registry);
  readonly requests = new RequestTallies(this.registry);

  readonly storageAction = this.#histogram(
    'registry_storage_action_seconds',
    'Time that storage took, by driver and action.',
    ['driver', 'action'],
    seconds,
  );
  readonly storageCache = this.#counter(
    'registry_storage_cache_total',
    'Look-ups in the descriptor cache: Request, Hit, Miss (the name in registry 2.8).',
    ['type'],
  );
  readonly storageCacheRequests = this.#counter(
    'registry_storage_cache_requests_total',
    'Look-ups in the descriptor cache (the name in registry 3).',
    [],
  );
  readonly storageCacheHits = this.#counter(
    'registry_storage_cache_hits_total',
    'Look-ups that the descriptor cache answered (the name in registry 3).',
    [],
  );
  readonly unhandledErrors = this.#counter(
    'cistern_unhandled_errors_total',
    'Errors that no code handled; the process continues to serve. Each is a bug in Cistern.',
    [],
  );
  readonly storageFailures = this.#counter(
    'cistern_storage_failures_total',
    'Accesses to the storage that failed, and without which clients were answered.',
    [],
  );
  readonly storageUploadBytes = this.#counter(
    'registry_storage_blob_upload_bytes_total',
    'Bytes of content taken into the store.',
    [],
  );
  readonly proxyPulledBytes = this.#counter(
    'registry_proxy_pulled_bytes_total',
    'Bytes of content read from upstreams.',
    ['type'],
  );

  readonly upstreamRequests = this.#counter(
    'cistern_upstream_requests_total',
    'Requests to upstreams, by what was asked for and how it ended (a status code or a fault).',
    ['upstream', 'kind', 'method', 'result'],
  );
  readonly upstreamRateLimited = this.#counter(
    'cistern_upstream_rate_limited_total',
    'Answers 429 of upstreams.',
    ['upstream'],
  );
  readonly upstreamDuration = this.#histogram(
    'cistern_upstream_request_duration_seconds',
    'Time until an upstream’s answer began.',
    ['upstream', 'kind'],
    seconds,
  );
  readonly upstreamTokens = this.#counter(
    'cistern_upstream_tokens_total',
    'Tokens asked for at upstreams’ token services, by result.',
    ['upstream', 'result'],
  );
  readonly upstreamCredentialsRefused = this.#counter(
    'cistern_upstream_credentials_refused_total',
    'Times that an upstream, or its token service, did not take our credentials, or they could not be had.',
    ['upstream'],
  );
  readonly upstreamBreakerOpen = this.#gauge(
    'cistern_upstream_breaker_open',
    '1 while an upstream is not asked because it failed too often, else 0.',
    ['upstream'],
  );
  readonly upstreamRateLimit = this.#gauge(
    'cistern_upstream_ratelimit_limit',
    'Pulls that an upstream allows in its window, as it last said, with all credentials.',
    ['upstream'],
  );
  readonly upstreamRateRemaining = this.#gauge(
    'cistern_upstream_ratelimit_remaining',
    'Pulls that an upstream still allows in its window, as it last said, without those on their way.',
    ['upstream'],
  );
  readonly upstreamRateSeen = this.#gauge(
    'cistern_upstream_ratelimit_seen_timestamp_seconds',
    'When this replica last looked at an upstream’s pull limit: what it tells of one may have changed since.',
    ['upstream'],
  );
  readonly upstreamFreshnessFactor = this.#gauge(
    'cistern_upstream_freshness_factor',
    'How many times `proxy.freshness` tags are served without asking, because little is left of the pull limit.',
    ['upstream'],
  );
  readonly upstreamExhausted = this.#gauge(
    'cistern_upstream_ratelimit_exhausted',
    '1 while nothing is left of an upstream’s pull limit and it is not asked for manifests, else 0.',
    ['upstream'],
  );
  readonly transfers = this.#counter(
    'cistern_transfers_total',
    'Blob transfers from upstreams that ended, by result: stored, mismatch, refused, broken, spool, store.',
    ['upstream', 'result'],
  );
  readonly transferRoles = this.#counter(
    'cistern_transfer_roles_total',
    'How this replica got its blobs: lead (read the upstream), follow (read a replica), takeover (went on for one that died), alone (could not ask the others).',
    ['role'],
  );
  readonly redisUsable = this.#gauge(
    'cistern_redis_usable',
    '1 while Redis answers within its budget, 0 while this replica does without it.',
    ['connection'],
  );
  readonly redisFailures = this.#counter(
    'cistern_redis_failures_total',
    'Calls that Redis did not answer within their budget.',
    ['connection'],
  );
  readonly redisRefusedValues = this.#counter(
    'cistern_redis_refused_values_total',
    'Values in Redis that this replica ignored because they lack proof of the cluster secret, by kind of key.',
    ['kind'],
  );
  readonly transfersRunning = this.#gauge(
    'cistern_transfers_running',
    'Blob transfers from upstreams that are running now.',
    [],
  );
  readonly transferReaders = this.#gauge(
    'cistern_transfer_readers',
    'Clients that are being served from running transfers now.',
    [],
  );
  readonly transferResumes = this.#counter(
    'cistern_transfer_resumes_total',
    'Times that a broken transfer was continued with Range.',
    ['upstream'],
  );
  readonly farRanges = this.#counter(
    'cistern_range_requests_total',
    'Ranges of cold blobs that were asked of an upstream apart from the transfer.',
    ['upstream'],
  );
  readonly upstreamRanges = this.#counter(
    'cistern_upstream_ranges_total',
    'With `proxy.ranges`, by event: begun (a blob in parallel ranges), resumed (a range that broke), objected (the upstream gives none, it is asked for whole blobs for 10 minutes).',
    ['upstream', 'event'],
  );
  readonly siblings = this.#counter(
    'cistern_siblings_total',
    'With `proxy.siblings`: blobs of images whose manifests clients got, by result: fetched, stored (already), refused, failed, dropped (too many).',
    ['upstream', 'result'],
  );
  readonly mismatches = this.#counter(
    'cistern_digest_mismatches_total',
    'Content from an upstream that was not what its digest says, and so was not stored.',
    ['upstream', 'type'],
  );
  readonly storedDamaged = this.#counter(
    'cistern_stored_damaged_total',
    'Stored content that was found not to be what its digest or its size says, and was fetched again.',
    ['type'],
  );
  readonly staleServed = this.#counter(
    'cistern_stale_served_total',
    'Answers from the cache because the upstream could not be asked, by what they were.',
    ['upstream', 'kind'],
  );
  readonly spoolBytes = this.#gauge('cistern_spool_bytes', 'Bytes in the spools of running transfers.', []);
  readonly spoolLimit = this.#gauge(
    'cistern_spool_limit_bytes',
    'What spools may take together (`proxy.spool.maxsize`).',
    [],
  );
  readonly localCopiesBytes = this.#gauge(
    'cistern_local_copies_bytes',
    "Bytes in copies of a bucket's blobs on this replica's own disk (`storage.s3.localcopies`).",
    [],
  );
  readonly localCopyReads = this.#counter(
    'cistern_local_copy_reads_total',
    'Blobs that may have a local copy and were opened, by result: hit (read from it), miss (read from the bucket).',
    ['result'],
  );
  readonly peerStreams = this.#gauge(
    'cistern_peer_streams',
    'Other replicas that are reading spools of this one now.',
    [],
  );
  readonly peerSentBytes = this.#counter(
    'cistern_peer_sent_bytes_total',
    'Bytes of content sent to other replicas, each of which an upstream did not have to send.',
    [],
  );

  // Their label is not `job`: Prometheus has one of its own by that name, for what it scrapes.
  readonly jobRuns = this.#counter(
    'cistern_job_runs_total',
    'Runs of jobs that ended on this replica, by outcome: done, failed, stopped (another replica goes on).',
    ['name', 'outcome'],
  );
  readonly jobRunning = this.#gauge('cistern_job_running', '1 while this replica runs a job, else 0.', [
    'name',
  ]);
  readonly jobLastRun = this.#gauge(
    'cistern_job_last_run_timestamp_seconds',
    'When a job was last done, by whichever replica.',
    ['name'],
  );
  readonly jobProblems = this.#gauge(
    'cistern_job_problems',
    'How many problems the last completed run of a job skipped, on any replica: each path, record or content that the storage did not list, read or remove, each damaged record, each image that was not fetched. A failed run leaves it as it is; the next completed run sets it anew, a run that finds nothing to do sets it to 0.',
    ['name'],
  );
  readonly jobDuration = this.#gauge(
    'cistern_job_duration_seconds',
    'How long a job took when it was last done, by whichever replica.',
    ['name'],
  );
  readonly jobNextRun = this.#gauge('cistern_job_next_run_timestamp_seconds', 'When a job is due next.', [
    'name',
  ]);
  readonly inuseImages = this.#gauge(
    'cistern_inuse_images',
    'Images that run somewhere, and so are neither expired nor evicted, on the replica that looks; by `source`: kubernetes, docker.',
    ['source'],
  );
  readonly inuseSeen = this.#gauge(
    'cistern_inuse_seen_timestamp_seconds',
    'When the replica that looks was last told of them.',
    ['source'],
  );
  readonly kubernetesUsable = this.#gauge(
    'cistern_kubernetes_usable',
    '1 while the API of Kubernetes tells of what is watched, 0 while it cannot be asked; by `resource`: pods, secrets.',
    ['resource'],
  );
  readonly kubernetesWatches = this.#counter(
    'cistern_kubernetes_watches_total',
    'Watches that were begun again, by why: ended (by the server), expired (too old, so all was listed again), failed.',
    ['resource', 'result'],
  );
  readonly removed = this.#counter(
    'cistern_removed_total',
    'What jobs and commands on this replica have removed, by what it was and why.',
    ['what', 'why'],
  );
  readonly removedBytes = this.#counter(
    'cistern_removed_bytes_total',
    'Bytes that the storage got back by removals, by why they were made.',
    ['why'],
  );
  readonly storedBlobs = this.#gauge(
    'cistern_stored_blobs',
    'Blobs and manifests in the storage, when it was last looked through.',
    [],
  );
  readonly storedBytes = this.#gauge(
    'cistern_stored_bytes',
    'Bytes of what is in the storage, when it was last looked through.',
    [],
  );
  readonly storedLimit = this.#gauge(
    'cistern_stored_limit_bytes',
    'What the storage may hold before the least recently used is removed (`proxy.maxsize`); +Inf: no limit.',
    [],
  );
  readonly scrubbedBytes = this.#counter(
    'cistern_scrubbed_bytes_total',
    'Bytes of stored content that were read again to verify them.',
    [],
  );
  readonly rotten = this.#counter(
    'cistern_rotten_total',
    'Stored content that was found not to be what its digest says.',
    [],
  );

  readonly certificateExpiry = this.#gauge(
    'cistern_tls_certificate_expiry_timestamp_seconds',
    'When the certificate that clients see ends; +Inf: `http.tls` has none.',
    [],
  );
  readonly buildInfo = this.#gauge('cistern_build_info', 'Always 1: what runs here.', ['version', 'node']);

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    this.buildInfo.set({ version, node: process.version }, 1);
    this.certificateExpiry.set(Infinity);
    for (const type of types) this.storedDamaged.inc({ type }, 0);
    for (const role of transferRoles) this.transferRoles.inc({ role }, 0);
    for (const result of ['hit', 'miss']) this.localCopyReads.inc({ result }, 0);
  }

  /**
   * An upstream that is configured: its series begin at zero. Else the first of a kind of trouble would be the first
   * that Prometheus sees of the series, and no increase.
   */
  expectUpstream(upstream: string): void {
    this.answers.expect(upstream);
    this.upstreamBreakerOpen.set({ upstream }, 0);
    this.upstreamExhausted.set({ upstream }, 0);
    this.upstreamFreshnessFactor.set({ upstream }, 1);
    this.upstreamRateLimited.inc({ upstream }, 0);
    this.upstreamCredentialsRefused.inc({ upstream }, 0);
    this.transferResumes.inc({ upstream }, 0);
    this.farRanges.inc({ upstream }, 0);
    for (const result of siblingResults) this.siblings.inc({ upstream, result }, 0);
    for (const event of rangeEvents) this.upstreamRanges.inc({ upstream, event }, 0);
    for (const kind of ['tag', 'listing']) this.staleServed.inc({ upstream, kind }, 0);
    for (const type of types) this.mismatches.inc({ upstream, type }, 0);
    for (const result of transferResults) this.transfers.inc({ upstream, result }, 0);
  }

  /** A job that may run here: the same for it. */
  expectJob(name: string): void {
    this.jobRunning.set({ name }, 0);
    for (const outcome of runOutcomes) this.jobRuns.inc({ name, outcome }, 0);
  }

  #counter<const L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  #gauge<const L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> {
    return new Gauge({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  #histogram<const L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    buckets: number[],
  ): Histogram<L> {
    return new Histogram({ name, help, labelNames: [...labelNames], buckets, registers: [this.registry] });
  }
}
