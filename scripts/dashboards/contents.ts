/** What the dashboards show. `$S` stands for the chosen replicas, `$R` for the time over which rates are taken. */

export type Unit = 'short' | 'reqps' | 'Bps' | 'bytes' | 's' | 'percentunit' | 'ops';

export interface Panel {
  readonly title: string;
  readonly description: string;
  readonly unit: Unit;
  /** One number in place of a course. */
  readonly single?: true;
  readonly stacked?: true;
  /** Expressions with their legends. */
  readonly queries: readonly (readonly [expression: string, legend: string])[];
}

export interface Dashboard {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[];
}

const overview: Dashboard = {
  name: 'overview',
  title: 'Cistern: overview',
  description: 'Whether clients get what they ask for, and from where.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Replicas',
          description: 'That Prometheus reaches.',
          unit: 'short',
          single: true,
          queries: [['count(cistern_build_info{$S})', 'replicas']],
        },
        {
          title: 'Hit ratio',
          description: 'Content answers that needed no bytes from an upstream.',
          unit: 'percentunit',
          single: true,
          queries: [
            [
              'sum(rate(registry_proxy_hits_total{$S}[$R])) / sum(rate(registry_proxy_requests_total{$S}[$R]))',
              'hits',
            ],
          ],
        },
        {
          title: 'Server errors',
          description: 'Answers 5xx, of all. 503 sends clients to their next host.',
          unit: 'percentunit',
          single: true,
          queries: [
            [
              '(sum(rate(registry_http_requests_total{$S,code=~"5.."}[$R])) or vector(0)) / sum(rate(registry_http_requests_total{$S}[$R]))',
              'errors',
            ],
          ],
        },
        {
          title: 'Stale answers',
          description: 'Tags and listings from the cache because the upstream could not be asked.',
          unit: 'reqps',
          single: true,
          queries: [['sum(rate(cistern_stale_served_total{$S}[$R]))', 'stale']],
        },
        {
          title: 'Upstreams not asked',
          description: 'They failed so often that they are left alone.',
          unit: 'short',
          single: true,
          queries: [['sum(max by (upstream) (cistern_upstream_breaker_open{$S}))', 'upstreams']],
        },
        {
          title: 'Certificate ends in',
          description: 'The first of all replicas; infinite without http.tls.',
          unit: 's',
          single: true,
          queries: [['min(cistern_tls_certificate_expiry_timestamp_seconds{$S}) - time()', 'end']],
        },
      ],
    },
    {
      title: 'Clients',
      panels: [
        {
          title: 'Requests by code',
          description: 'What clients are answered.',
          unit: 'reqps',
          stacked: true,
          queries: [['sum by (code) (rate(registry_http_requests_total{$S}[$R]))', '{{code}}']],
        },
        {
          title: 'Requests by replica',
          description: 'How even the load balancer is.',
          unit: 'reqps',
          stacked: true,
          queries: [['sum by (instance) (rate(registry_http_requests_total{$S}[$R]))', '{{instance}}']],
        },
        {
          title: 'Time of manifests',
          description: 'From the request to the last byte. Clients give up after 10 seconds.',
          unit: 's',
          queries: ['0.5', '0.95', '0.99'].map((quantile) => [
            `histogram_quantile(${quantile}, sum by (le) (rate(registry_http_request_duration_seconds_bucket{$S,handler="manifest"}[$R])))`,
            quantile,
          ]),
        },
        {
          title: 'Time of blobs',
          description: 'From the request to the last byte, at the pace of the clients.',
          unit: 's',
          queries: ['0.5', '0.95', '0.99'].map((quantile) => [
            `histogram_quantile(${quantile}, sum by (le) (rate(registry_http_request_duration_seconds_bucket{$S,handler="blob"}[$R])))`,
            quantile,
          ]),
        },
        {
          title: 'Requests in flight',
          description: 'That are being answered, by handler.',
          unit: 'short',
          stacked: true,
          queries: [['sum by (handler) (registry_http_in_flight_requests{$S})', '{{handler}}']],
        },
        {
          title: 'Bytes',
          description: 'What clients got, and what had to be fetched for it.',
          unit: 'Bps',
          queries: [
            ['sum(rate(registry_proxy_pushed_bytes_total{$S}[$R]))', 'to clients'],
            ['sum(rate(registry_proxy_pulled_bytes_total{$S}[$R]))', 'from upstreams'],
          ],
        },
      ],
    },
    {
      title: 'Cache',
      panels: [
        {
          title: 'Answers by outcome',
          description: 'What the cache had of the content that was asked for.',
          unit: 'reqps',
          stacked: true,
          queries: [['sum by (outcome) (rate(cistern_answers_total{$S}[$R]))', '{{outcome}}']],
        },
        {
          title: 'Hit ratio by upstream',
          description: 'Answers with content that were no miss.',
          unit: 'percentunit',
          queries: [
            [
              '1 - sum by (upstream) (rate(cistern_answers_total{$S,outcome="miss"}[$R])) / sum by (upstream) (rate(cistern_answers_total{$S}[$R]))',
              '{{upstream}}',
            ],
          ],
        },
        {
          title: 'Bytes to clients by upstream',
          description: 'Whose content is pulled.',
          unit: 'Bps',
          stacked: true,
          queries: [['sum by (upstream) (rate(cistern_answered_bytes_total{$S}[$R]))', '{{upstream}}']],
        },
      ],
    },
    {
      title: 'Processes',
      panels: [
        {
          title: 'CPU',
          description: 'Cores that each replica uses.',
          unit: 'short',
          queries: [['rate(process_cpu_seconds_total{$S}[$R])', '{{instance}}']],
        },
        {
          title: 'Memory',
          description: 'Resident. It does not grow with the size of blobs.',
          unit: 'bytes',
          queries: [['process_resident_memory_bytes{$S}', '{{instance}}']],
        },
        {
          title: 'Event loop',
          description: 'How late work begins (99th percentile): above 0.1 s a replica lacks processor time.',
          unit: 's',
          queries: [['nodejs_eventloop_lag_p99_seconds{$S}', '{{instance}}']],
        },
      ],
    },
  ],
};

const upstreams: Dashboard = {
  name: 'upstreams',
  title: 'Cistern: upstreams and pull limits',
  description: 'How often upstreams are asked, how that ends, and what they still allow.',
  rows: [
    {
      title: 'Requests',
      panels: [
        {
          title: 'Upstream requests by result',
          description: 'Status codes, or why there was none. 401 is how a token is asked for.',
          unit: 'reqps',
          stacked: true,
          queries: [
            [
              'sum by (upstream, result) (rate(cistern_upstream_requests_total{$S}[$R]))',
              '{{upstream}} {{result}}',
            ],
          ],
        },
        {
          title: 'Upstream requests by kind',
          description: 'A GET of a manifest is a pull by the rules of Docker Hub; HEAD is none.',
          unit: 'reqps',
          stacked: true,
          queries: [
            [
              'sum by (upstream, kind, method) (rate(cistern_upstream_requests_total{$S}[$R]))',
              '{{upstream}} {{method}} {{kind}}',
            ],
          ],
        },
        {
          title: 'Time until an upstream answers',
          description: '95th percentile, to the headers of the answer.',
          unit: 's',
          queries: [
            [
              'histogram_quantile(0.95, sum by (upstream, le) (rate(cistern_upstream_request_duration_seconds_bucket{$S}[$R])))',
              '{{upstream}}',
            ],
          ],
        },
        {
          title: 'Not asked',
          description: '1: it failed so often that it is left alone for a while.',
          unit: 'short',
          queries: [['max by (upstream) (cistern_upstream_breaker_open{$S})', '{{upstream}}']],
        },
      ],
    },
    {
      title: 'Pull limits',
      panels: [
        {
          title: 'Pulls left',
          description: 'In the window of the upstream, with all credentials, as it last said.',
          unit: 'short',
          queries: [
            ['min by (upstream) (cistern_upstream_ratelimit_remaining{$S})', '{{upstream}} left'],
            ['max by (upstream) (cistern_upstream_ratelimit_limit{$S})', '{{upstream}} limit'],
          ],
        },
        {
          title: 'Share left',
          description: 'Below a half and a fifth tags are believed longer.',
          unit: 'percentunit',
          queries: [
            [
              'min by (upstream) (cistern_upstream_ratelimit_remaining{$S}) / max by (upstream) (cistern_upstream_ratelimit_limit{$S} > 0)',
              '{{upstream}}',
            ],
          ],
        },
        {
          title: 'Freshness factor',
          description: 'How many times proxy.freshness a tag is believed, to save pulls.',
          unit: 'short',
          queries: [['max by (upstream) (cistern_upstream_freshness_factor{$S})', '{{upstream}}']],
        },
        {
          title: 'Answers 429, and limits used up',
          description: 'Refusals by the upstream; 1 while nothing is left and it is not asked for manifests.',
          unit: 'short',
          queries: [
            ['sum by (upstream) (rate(cistern_upstream_rate_limited_total{$S}[$R]))', '{{upstream}} 429/s'],
            ['max by (upstream) (cistern_upstream_ratelimit_exhausted{$S})', '{{upstream}} used up'],
          ],
        },
      ],
    },
    {
      title: 'Trouble',
      panels: [
        {
          title: 'Stale answers by upstream',
          description: 'From the cache, because it could not be asked.',
          unit: 'reqps',
          queries: [
            ['sum by (upstream, kind) (rate(cistern_stale_served_total{$S}[$R]))', '{{upstream}} {{kind}}'],
          ],
        },
        {
          title: 'Credentials and tokens',
          description: 'Credentials that were refused, and what token services answered.',
          unit: 'ops',
          queries: [
            [
              'sum by (upstream) (rate(cistern_upstream_credentials_refused_total{$S}[$R]))',
              '{{upstream}} refused',
            ],
            [
              'sum by (upstream, result) (rate(cistern_upstream_tokens_total{$S}[$R]))',
              '{{upstream}} token {{result}}',
            ],
          ],
        },
        {
          title: 'Corrupt content',
          description: 'What was not what its digest says; it was cut and not stored.',
          unit: 'short',
          queries: [
            [
              'sum by (upstream, type) (increase(cistern_digest_mismatches_total{$S}[$R]))',
              '{{upstream}} {{type}}',
            ],
          ],
        },
        {
          title: 'Broken and odd transfers',
          description: 'Transfers continued after a break, and ranges of cold blobs that were fetched apart.',
          unit: 'ops',
          queries: [
            ['sum by (upstream) (rate(cistern_transfer_resumes_total{$S}[$R]))', '{{upstream}} continued'],
            ['sum by (upstream) (rate(cistern_range_requests_total{$S}[$R]))', '{{upstream}} range apart'],
          ],
        },
      ],
    },
  ],
};

const cluster: Dashboard = {
  name: 'cluster',
  title: 'Cistern: cluster and transfers',
  description: 'How replicas share the work, and what is on its way.',
  rows: [
    {
      title: 'Transfers',
      panels: [
        {
          title: 'Transfers now',
          description: 'Blobs on their way, the clients and the other replicas that read them.',
          unit: 'short',
          queries: [
            ['sum(cistern_transfers_running{$S})', 'transfers'],
            ['sum(cistern_transfer_readers{$S})', 'clients'],
            ['sum(cistern_peer_streams{$S})', 'replicas'],
          ],
        },
        {
          title: 'Transfers by result',
          description:
            'stored; mismatch: corrupt; refused: not to be had; broken, spool (no room), store: trouble.',
          unit: 'ops',
          stacked: true,
          queries: [['sum by (result) (rate(cistern_transfers_total{$S}[$R]))', '{{result}}']],
        },
        {
          title: 'Where blobs came from',
          description:
            'lead: the upstream. follow: another replica. takeover: from one that died. alone: could not ask the others.',
          unit: 'ops',
          stacked: true,
          queries: [['sum by (role) (rate(cistern_transfer_roles_total{$S}[$R]))', '{{role}}']],
        },
        {
          title: 'Bytes between replicas',
          description: 'That no upstream had to send.',
          unit: 'Bps',
          queries: [['sum by (instance) (rate(cistern_peer_sent_bytes_total{$S}[$R]))', '{{instance}}']],
        },
        {
          title: 'Spool',
          description: 'What running transfers take of proxy.spool.maxsize.',
          unit: 'percentunit',
          queries: [['cistern_spool_bytes{$S} / cistern_spool_limit_bytes{$S}', '{{instance}}']],
        },
        {
          title: 'Spool in bytes',
          description: 'The same, in bytes.',
          unit: 'bytes',
          queries: [['cistern_spool_bytes{$S}', '{{instance}}']],
        },
      ],
    },
    {
      title: 'Redis',
      panels: [
        {
          title: 'Redis usable',
          description: '0: this replica does without it. None without a redis section.',
          unit: 'short',
          queries: [
            ['min by (instance, connection) (cistern_redis_usable{$S})', '{{instance}} {{connection}}'],
          ],
        },
        {
          title: 'Redis failures',
          description: 'Calls without an answer in their time.',
          unit: 'ops',
          queries: [
            ['sum by (instance) (rate(cistern_redis_failures_total{$S}[$R])) or vector(0)', '{{instance}}'],
          ],
        },
        {
          title: 'Descriptor cache',
          description: 'Look-ups that it answered.',
          unit: 'percentunit',
          queries: [
            [
              'sum by (instance) (rate(registry_storage_cache_hits_total{$S}[$R])) / sum by (instance) (rate(registry_storage_cache_requests_total{$S}[$R]))',
              '{{instance}}',
            ],
          ],
        },
      ],
    },
  ],
};

const storage: Dashboard = {
  name: 'storage',
  title: 'Cistern: storage and scheduler',
  description: 'What is stored, what goes, and the jobs that see to it.',
  rows: [
    {
      title: 'Storage',
      panels: [
        {
          title: 'Stored',
          description: 'When the storage was last looked through, and what proxy.maxsize allows.',
          unit: 'bytes',
          queries: [
            ['max(cistern_stored_bytes{$S})', 'stored'],
            ['max(cistern_stored_limit_bytes{$S})', 'limit'],
          ],
        },
        {
          title: 'Blobs and manifests',
          description: 'In the storage, when it was last looked through.',
          unit: 'short',
          queries: [['max(cistern_stored_blobs{$S})', 'stored']],
        },
        {
          title: 'Bytes taken in and removed',
          description: 'New content, and what the storage got back.',
          unit: 'Bps',
          queries: [
            ['sum(rate(registry_storage_blob_upload_bytes_total{$S}[$R]))', 'taken in'],
            ['sum(rate(cistern_removed_bytes_total{$S}[$R])) or vector(0)', 'removed'],
          ],
        },
        {
          title: 'Storage actions',
          description: 'By what was done.',
          unit: 'ops',
          stacked: true,
          queries: [['sum by (action) (rate(registry_storage_action_seconds_count{$S}[$R]))', '{{action}}']],
        },
        {
          title: 'Time that storage takes',
          description: '95th percentile, by action.',
          unit: 's',
          queries: [
            [
              'histogram_quantile(0.95, sum by (action, le) (rate(registry_storage_action_seconds_bucket{$S}[$R])))',
              '{{action}}',
            ],
          ],
        },
        {
          title: 'Local copies',
          description:
            "Large blobs of a bucket: read from a copy on the replica's disk (hit), or from the bucket (miss).",
          unit: 'ops',
          queries: [['sum by (result) (rate(cistern_local_copy_reads_total{$S}[$R]))', '{{result}}']],
        },
        {
          title: 'Storage trouble',
          description: 'Accesses that failed, and stored content that was found damaged.',
          unit: 'ops',
          queries: [
            ['sum(rate(cistern_storage_failures_total{$S}[$R]))', 'failed'],
            ['sum(rate(cistern_stored_damaged_total{$S}[$R]))', 'damaged, found by a pull'],
            ['sum(rate(cistern_rotten_total{$S}[$R]))', 'damaged, found by scrub'],
          ],
        },
      ],
    },
    {
      title: 'Scheduler',
      panels: [
        {
          title: 'Last done',
          description: 'How long ago, by whichever replica.',
          unit: 's',
          queries: [['time() - max by (name) (cistern_job_last_run_timestamp_seconds{$S})', '{{name}}']],
        },
        {
          title: 'Next due',
          description: 'In how long.',
          unit: 's',
          queries: [['max by (name) (cistern_job_next_run_timestamp_seconds{$S}) - time()', '{{name}}']],
        },
        {
          title: 'Duration',
          description: 'Of the last run that was done.',
          unit: 's',
          queries: [['max by (name) (cistern_job_duration_seconds{$S})', '{{name}}']],
        },
        {
          title: 'Runs by outcome',
          description: 'stopped: another replica goes on.',
          unit: 'short',
          queries: [
            ['sum by (name, outcome) (increase(cistern_job_runs_total{$S}[$R]))', '{{name}} {{outcome}}'],
          ],
        },
        {
          title: 'Running',
          description: 'Jobs that a replica does now.',
          unit: 'short',
          queries: [['sum by (name) (cistern_job_running{$S})', '{{name}}']],
        },
        {
          title: 'Removed',
          description: 'Things by what they were and why they went.',
          unit: 'short',
          queries: [
            ['sum by (what, why) (increase(cistern_removed_total{$S}[$R])) or vector(0)', '{{what}} {{why}}'],
          ],
        },
        {
          title: 'Images in use',
          description: 'That Kubernetes or Docker runs, and that therefore stay. 0 where neither is asked.',
          unit: 'short',
          queries: [['max by (source) (cistern_inuse_images{$S}) or vector(0)', '{{source}}']],
        },
        {
          title: 'Read again',
          description: 'Content that scrub verified.',
          unit: 'Bps',
          queries: [['sum(rate(cistern_scrubbed_bytes_total{$S}[$R]))', 'verified']],
        },
      ],
    },
  ],
};

export const dashboards: readonly Dashboard[] = [overview, upstreams, cluster, storage];
