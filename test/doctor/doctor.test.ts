import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.js';
import type { Finding } from '../../src/doctor/check.js';
import { examineMirror } from '../../src/doctor/mirror-checks.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type CephRgw, cephParts, startCephRgw } from '../parts/ceph-rgw.js';
import { type CertificateFiles, makeCertificate, readPemPair } from '../parts/certificates.js';
import { overlay, runCistern, type Settings, startCistern } from '../parts/cistern.js';
import { clockOff } from '../parts/clock.js';
import { commandOf, lacks } from '../parts/debian.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { smallDisk } from '../parts/mounts.js';
import { freePort } from '../parts/ports.js';
import { runSuccessfully, startProcess, untilLogged, untilReady } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { TokenServer } from '../parts/token-server.js';
import { patience } from '../parts/patience.js';

interface Diagnosis {
  readonly code: number;
  /** Of each finding: what was looked at, the verdict, and what was found with what to do. */
  readonly lines: readonly string[];
  readonly faults: readonly string[];
}

const secret = 'only-we-know-this';
const sound = { faults: [] };

describe('doctor', () => {
  let folder: TemporaryFolder;
  let upstream: FakeUpstream;
  let configs = 0;
  beforeAll(async () => {
    folder = await temporaryFolder();
    upstream = await FakeUpstream.start({
      headers: { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600' },
    });
  });
  afterAll(async () => {
    await upstream[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  /** A configuration with nothing wrong, and what is laid over it. */
  async function configFile(changes: Settings = {}): Promise<string> {
    configs += 1;
    const own = {
      version: 0.1,
      http: { addr: `127.0.0.1:${await freePort()}` },
      proxy: { remoteurl: upstream.url },
      ...(changes['storage'] === undefined
        ? { storage: { filesystem: { rootdirectory: join(folder.path, 'root') } } }
        : {}),
    };
    const path = join(folder.path, `config-${configs}.yml`);
    await writeFile(path, stringify(overlay(own, changes)));
    return path;
  }

  /** As its users run it. */
  async function run(config: string, env: Readonly<Record<string, string>> = {}): Promise<Diagnosis> {
    const { code, stdout, stderr } = await runCistern(['doctor', '--json', '--config', config], { env });
    expect(stderr).toBe('');
    const { failed, findings } = JSON.parse(stdout) as { failed: number; findings: Finding[] };
    const diagnosis = { code, ...summaryOf(findings) };
    expect({ failed, code }).toEqual({ failed: diagnosis.faults.length, code: failed === 0 ? 0 : 1 });
    return diagnosis;
  }

  /** The same in this process. */
  async function examine(path: string, env: NodeJS.ProcessEnv = {}): Promise<Omit<Diagnosis, 'code'>> {
    const { config } = loadConfig({ path, env: {}, cwd: folder.path });
    return summaryOf(await examineMirror(config, env, patience()));
  }

  it('finds nothing where nothing is wrong, and says what it has looked at', async () => {
    const { lines, ...rest } = await run(await configFile());
    expect(rest).toEqual({ code: 0, ...sound });
    expect(lines).toEqual([
      expect.stringMatching(/^ok configuration: .*config-\d+\.yml can be used$/),
      expect.stringMatching(/^ok ports: .* the mirror does not run here$/),
      expect.stringMatching(/^ok storage: .*\/root can be used: [\d.]+ GB of [\d.]+ GB free$/),
      'ok upstream docker.io: answers, and asks for no login',
      'ok upstream docker.io: 76 of 100 pulls are left',
      'ok clock: agrees with docker.io',
    ]);
  });

  it('names each wrong key of the configuration', async () => {
    const { code, faults } = await run(
      await configFile({ proxy: { freshness: 'soon' }, cluster: { nonsense: 1 } }),
    );
    expect(code).toBe(1);
    expect(faults).toEqual([
      expect.stringMatching(/^configuration: cluster\.nonsense/),
      expect.stringMatching(/^configuration: proxy\.freshness: got "soon"/),
    ]);
  });

  it('prints a line for each finding, and never a password', async () => {
    const proxy = { username: 'bob', password: secret };
    const { code, stdout, stderr } = await runCistern(['doctor', '-c', await configFile({ proxy })]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      /^warn {2}upstream docker\.io: answers, and does not ask for a login: .* -> pull an image/m,
    );
    expect(stdout).not.toContain(secret);
  });

  describe.skipIf(lacks('redis-server'))('of redis', () => {
    let redis: RedisServer;
    beforeAll(async () => {
      const limits = ['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru'];
      redis = await startRedis({ args: ['--requirepass', secret, ...limits] });
    });
    afterAll(() => redis[Symbol.asyncDispose]());

    it('finds a wrong password, and one that is missing', async () => {
      const wrong = await examine(await configFile({ redis: { addr: redis.addr, password: 'wrong' } }));
      expect(wrong.faults).toEqual([
        `redis: ${redis.addr} cannot be used: WRONGPASS redis.password has to be the password that requirepass or the ACL says`,
      ]);
      const missing = await examine(await configFile({ redis: { addr: redis.addr } }));
      expect(missing.faults).toEqual([expect.stringMatching(/^redis: .*NOAUTH redis\.password is missing/)]);
    });

    it('finds a Redis that keeps what nobody uses', async () => {
      await using endless = await startRedis();
      const { faults, lines } = await examine(await configFile({ redis: { addr: endless.addr } }));
      expect(faults).toEqual([]);
      expect(lines).toEqual(
        expect.arrayContaining([
          expect.stringMatching(
            /^warn redis: .* evicts by noeviction CONFIG SET maxmemory-policy allkeys-lru/,
          ),
          expect.stringMatching(/^warn redis: .* has no memory limit/),
        ]),
      );
    });

    it('finds a Sentinel without the others and without the master', async () => {
      const [port, gone] = [await freePort(), await freePort()];
      const conf = join(folder.path, 'sentinel.conf');
      const monitor = `sentinel monitor mymaster 127.0.0.1 ${gone} 2`;
      await writeFile(conf, `port ${port}\nbind 127.0.0.1\ndir ${folder.path}\n${monitor}\n`);
      await using sentinel = await startProcess(commandOf('redis-server'), [conf, '--sentinel']);
      await untilReady(sentinel, 'sentinel', (signal) => untilLogged(sentinel, /Sentinel ID is/, signal));
      const addrs = [`127.0.0.1:${port}`, `127.0.0.1:${gone}`];
      const { faults } = await examine(
        await configFile({ redis: { sentinel: { mastername: 'mymaster', addrs } } }),
      );
      expect(faults).toEqual([
        expect.stringMatching(
          new RegExp(`^redis: the Sentinel 127\\.0\\.0\\.1:${gone} cannot be used: ECONNREFUSED`),
        ),
        expect.stringMatching(/^redis: the Sentinels could not elect another master for mymaster: NOQUORUM/),
        expect.stringMatching(
          new RegExp(
            `^redis: the master 127\\.0\\.0\\.1:${gone} cannot be used: ECONNREFUSED what the Sentinels announce`,
          ),
        ),
      ]);
      const other = { redis: { sentinel: { mastername: 'other', addrs: [`127.0.0.1:${port}`] } } };
      expect((await examine(await configFile(other))).faults).toEqual([
        expect.stringMatching(/^redis: the Sentinel .* watches no other/),
      ]);
    });

    it('finds an advertised address that leads to somebody else, or to another replica', async () => {
      const root = join(folder.path, 'cluster');
      const port = await freePort();
      const settings = (cluster: number, advertise: number): Settings => ({
        redis: { addr: redis.addr, password: secret },
        cluster: { addr: `127.0.0.1:${cluster}`, advertise: `http://127.0.0.1:${advertise}` },
        proxy: { remoteurl: upstream.url },
      });
      const [first, second] = [await freePort(), await freePort()];
      await using one = await startCistern({ root, port, config: settings(first, first) });
      expect(await examine(one.configFile)).toMatchObject(sound);
      await using two = await startCistern({ root, config: settings(second, first) });
      expect((await examine(two.configFile)).faults).toEqual([
        expect.stringMatching(
          new RegExp(`^cluster: http://127\\.0\\.0\\.1:${first} leads to another replica`),
        ),
      ]);
      const elsewhere = Number(new URL(upstream.url).port);
      await using three = await startCistern({ root, config: settings(await freePort(), elsewhere) });
      expect((await examine(three.configFile)).faults).toEqual([
        expect.stringMatching(/^cluster: http:\S+ leads to somebody who is no replica \(404\)/),
      ]);
      expect(await readFile(one.configFile, 'utf8')).toContain(secret);
      expect(one.log() + two.log() + three.log()).not.toContain(secret);
    });
  });

  it.skipIf(lacks('root'))('finds a storage that cannot be written to', async () => {
    await using disk = await smallDisk(1_000_000);
    await runSuccessfully('/usr/bin/mount', ['-o', 'remount,ro', disk.path]);
    const { faults } = await examine(
      await configFile({ storage: { filesystem: { rootdirectory: disk.path } } }),
    );
    expect({ faults }).toEqual({
      faults: [
        `storage: ${disk.path} cannot be written to: EROFS mount it writable: a mirror keeps what it fetches`,
      ],
    });
  });

  it('finds a storage that is a file, and leaves nothing behind in a sound one', async () => {
    const path = join(folder.path, 'file');
    await writeFile(path, '');
    const { faults } = await examine(await configFile({ storage: { filesystem: { rootdirectory: path } } }));
    expect(faults).toEqual([expect.stringMatching(/^storage: .*\/file cannot be made: EEXIST/)]);
    const fresh = join(folder.path, 'a', 'b');
    expect(
      await examine(await configFile({ storage: { filesystem: { rootdirectory: fresh } } })),
    ).toMatchObject(sound);
    await mkdir(join(folder.path, 'a')); // which is gone with all that was below it
  });

  describe.skipIf(lacks(...cephParts))('of S3', () => {
    let rgw: CephRgw;
    beforeAll(async () => {
      rgw = await startCephRgw();
    });
    afterAll(() => rgw[Symbol.asyncDispose]());

    it('finds a wrong key and a bucket that is not there', async () => {
      const spool = { directory: join(folder.path, 'spool') };
      const withS3 = (s3: Settings): Promise<string> => configFile({ storage: { s3 }, proxy: { spool } });
      const bucket = await rgw.newBucket();
      expect(await examine(await withS3(rgw.settings(bucket)))).toMatchObject(sound);
      const wrong = await examine(await withS3(rgw.settings(bucket, { secretkey: 'wrong' })));
      expect(wrong.faults).toEqual([
        expect.stringMatching(
          /^storage: bucket .*SignatureDoesNotMatch.* storage\.s3\.accesskey and secretkey/,
        ),
      ]);
      const missing = await examine(await withS3(rgw.settings('nobody-made-this')));
      expect(missing.faults).toEqual([
        expect.stringMatching(
          /^storage: bucket nobody-made-this .*NoSuchBucket.* storage\.s3\.bucket has to be there/,
        ),
      ]);
    });
  });

  it('finds credentials that an upstream refuses, at itself and at its token server', async () => {
    await using guarded = await FakeUpstream.start({ users: { alice: 'right' } });
    const withUser = (url: string, password: string): Promise<string> =>
      configFile({ proxy: { remoteurl: url, username: 'alice', password } });
    expect(await examine(await withUser(guarded.url, 'right'))).toMatchObject(sound);
    expect((await examine(await withUser(guarded.url, 'wrong'))).faults).toEqual([
      expect.stringMatching(
        /^upstream docker\.io: 127\.0\.0\.1:\d+ refuses the credentials of "alice" \(401\)/,
      ),
    ]);
    await using tokens = await TokenServer.start({
      users: { alice: { password: 'right', repositories: [] } },
    });
    await using bearing = await FakeUpstream.start({ tokens });
    expect((await examine(await withUser(bearing.url, 'wrong'))).faults).toEqual([
      expect.stringMatching(
        /^upstream docker\.io: 127\.0\.0\.1:\d+ refuses the credentials of "alice" \(401\)/,
      ),
    ]);
    expect(guarded.asked({ method: 'GET' }).every(({ path }) => path === '/v2/')).toBe(true);
  });

  it('finds a proxy that is none, and does not repeat its password', async () => {
    const { faults } = await examine(await configFile(), { HTTP_PROXY: `http://user:${secret}@:x` });
    expect(faults).toEqual([expect.stringMatching(/^upstream docker\.io: HTTP_PROXY.* see HTTP_PROXY/)]);
  });

  it('finds an upstream that is not there, or is no registry', async () => {
    await using nothing = await FakeUpstream.start();
    const upstreams = [
      { host: 'a.example', url: 'http://127.0.0.1:9' },
      { host: 'b.example', url: 'https://nobody.invalid' },
      { host: 'c.example', url: nothing.url },
    ];
    nothing.fault({}, { answer: { status: 404 } });
    const { faults } = await examine(await configFile({ proxy: { upstreams } }));
    expect(faults).toEqual([
      expect.stringMatching(/^upstream a\.example: http:\/\/127\.0\.0\.1:9 cannot be reached: ECONNREFUSED/),
      expect.stringMatching(/^upstream b\.example: .*(?:ENOTFOUND|EAI_AGAIN) nobody knows the name here/),
      expect.stringMatching(/^upstream c\.example: answers 404 to \/v2\//),
    ]);
  });

  describe.skipIf(lacks('openssl'))('of certificates', () => {
    let authority: CertificateFiles;
    let own: CertificateFiles;
    beforeAll(async () => {
      authority = await makeCertificate(folder.path, 'authority');
      own = await makeCertificate(folder.path, 'mirror', authority);
    });

    it('finds an upstream whose authority is not known', async () => {
      const server = createServer(await readPemPair(own), (_, response) => response.end('{}'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const withCa = (upstreams: readonly Settings[]): Promise<string> =>
        configFile({ proxy: { upstreams } });
      try {
        const { faults } = await examine(await withCa([{ host: 'a.example', url }]));
        expect(faults).toEqual([
          expect.stringMatching(/^upstream a\.example: .*UNABLE_TO_VERIFY_LEAF_SIGNATURE .* name that in ca/),
        ]);
        const known = await examine(await withCa([{ host: 'a.example', url, ca: authority.certificate }]));
        expect(known).toMatchObject(sound);
        expect(known.lines).toContainEqual(
          expect.stringMatching(/^warn upstream a\.example: its certificate expires in less than 2 days/),
        );
      } finally {
        server.close();
      }
    });

    it("finds a key that is another certificate's, a wrong order and a name that is missing", async () => {
      const withTls = (tls: CertificateFiles): Promise<string> => configFile({ http: { tls } });
      const fitting = await examine(await withTls(own));
      expect(fitting).toMatchObject(sound);
      expect(fitting.lines).toContainEqual(
        expect.stringMatching(/^warn certificate: .* expires in less than 2 days/),
      );
      expect(fitting.lines).toContainEqual(
        expect.stringMatching(
          /^warn certificate: .* ends with what CN=authority has issued, whom nobody here knows/,
        ),
      );
      const mixed = { certificate: own.certificate, key: authority.key };
      expect((await examine(await withTls(mixed))).faults).toEqual([
        expect.stringMatching(/^certificate: the key \S+ does not belong to \S+/),
      ]);
      const turned = { ...own, certificate: join(folder.path, 'turned.cert') };
      const [leaf, issuer] = await Promise.all(
        [own, authority].map(({ certificate }) => readFile(certificate, 'utf8')),
      );
      await writeFile(turned.certificate, `${leaf}${leaf}${issuer}`);
      expect((await examine(await withTls(turned))).faults).toEqual([
        expect.stringMatching(
          /^certificate: in \S+ the certificate 2 is not the issuer of the one before it/,
        ),
      ]);
      const upstreams = [{ host: 'ghcr.io', url: upstream.url, hosts: ['ghcr.mirror.example'] }];
      expect((await examine(await configFile({ http: { tls: own }, proxy: { upstreams } }))).faults).toEqual([
        expect.stringMatching(/^certificate: the certificate is not for ghcr\.mirror\.example/),
      ]);
    });

    it.skipIf(lacks('faketime'))(
      'finds a certificate that has expired, and a clock that is off',
      async () => {
        const expired = { certificate: join(folder.path, 'old.cert'), key: own.key };
        const made = [
          'req',
          '-x509',
          '-days',
          '2',
          '-key',
          own.key,
          '-subj',
          '/CN=old',
          '-out',
          expired.certificate,
        ];
        const names = ['-addext', 'subjectAltName=IP:127.0.0.1'];
        await runSuccessfully(commandOf('openssl'), [...made, ...names], { env: clockOff(-10 * 24 * 3600) });
        expect((await examine(await configFile({ http: { tls: expired } }))).faults).toEqual([
          expect.stringMatching(/^certificate: \S+ has expired on \S+ renew it/),
        ]);
        const { faults } = await run(await configFile(), clockOff(600));
        expect(faults).toEqual([
          expect.stringMatching(
            /^clock: the clock here is \d+ s ahead of that of docker\.io set the clock of this machine/,
          ),
        ]);
      },
    );
  });

  it('finds ports that stand on each other, or that somebody else has', async () => {
    const addr = `127.0.0.1:${await freePort()}`;
    const same = { http: { addr, debug: { addr } } };
    expect((await examine(await configFile(same))).faults).toEqual([
      `ports: http.addr and http.debug.addr are both ${addr} give each of them a port of its own`,
    ]);
    const taken = { http: { debug: { addr: upstream.host } } };
    expect((await examine(await configFile(taken))).faults).toEqual([
      expect.stringMatching(
        /^ports: http\.debug\.addr \S+ cannot be listened on: EADDRINUSE somebody else listens there/,
      ),
    ]);
  });
});

function summaryOf(findings: readonly Finding[]): Omit<Diagnosis, 'code'> {
  expect(JSON.stringify(findings)).not.toContain(secret);
  const lineOf = ({ check, message, advice }: Finding): string =>
    `${check}: ${message}${advice === undefined ? '' : ` ${advice}`}`;
  return {
    faults: findings.filter(({ verdict }) => verdict === 'fail').map(lineOf),
    lines: findings.map((finding) => `${finding.verdict} ${lineOf(finding)}`),
  };
}
