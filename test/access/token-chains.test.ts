import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { CertificateChains } from '../../src/registry/certificate-chain.js';
import { TokenAuthentication } from '../../src/registry/token-authentication.js';
import { TokenKeyFiles } from '../../src/registry/token-keys.js';
import { makeCertificate, makeCertificateWith, type CertificateFiles } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { signedToken, tokenIssuer, tokenService } from '../parts/signed-token.js';

const leaf = 'basicConstraints=critical,CA:FALSE';
const forSignatures = 'keyUsage=critical,digitalSignature';
const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];

/** For each certificate: the name of its issuer (`undefined`: self-signed), then its extensions. */
const certificates: Readonly<Record<string, readonly [string | undefined, ...(readonly string[])]>> = {
  root: [undefined],
  signer: ['root', leaf, forSignatures],
  plain: ['root', leaf],
  forAll: ['root', leaf, 'extendedKeyUsage=anyExtendedKeyUsage'],
  forTokens: ['root', leaf, forSignatures, 'extendedKeyUsage=clientAuth,1.3.6.1.5.5.7.3.37'],
  client: ['root', leaf, forSignatures, 'extendedKeyUsage=clientAuth'],
  server: ['root', leaf, forSignatures, 'extendedKeyUsage=critical,serverAuth'],
  encrypter: ['root', leaf, 'keyUsage=critical,keyAgreement'],
  approver: ['root', leaf, 'keyUsage=critical,nonRepudiation'],
  approvingSigner: ['root', leaf, 'keyUsage=critical,digitalSignature,nonRepudiation'],
  unknown: ['root', leaf, '1.2.3.4.5=critical,ASN1:UTF8String:x'],
  belowLeaf: ['signer', leaf, forSignatures],
  belowClient: ['client', leaf, forSignatures],
  first: ['root', 'basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign'],
  belowFirst: ['first', leaf, forSignatures],
  second: ['first', ...authority],
  belowSecond: ['second', leaf, forSignatures],
  unsigning: ['root', 'basicConstraints=critical,CA:TRUE', 'keyUsage=critical,digitalSignature'],
  belowUnsigning: ['unsigning', leaf, forSignatures],
  clients: ['root', ...authority, 'extendedKeyUsage=clientAuth'],
  belowClients: ['clients', leaf, forSignatures],
  named: ['root', ...authority, 'nameConstraints=critical,permitted;DNS:tokens.example'],
  inside: ['named', leaf, forSignatures, 'subjectAltName=DNS:a.tokens.example'],
  outside: ['named', leaf, forSignatures, 'subjectAltName=DNS:elsewhere.example'],
  stranger: [undefined],
  foreign: ['stranger', leaf, forSignatures],
};

describe.skipIf(lacks('openssl'))('a token with the chain of its certificate', () => {
  let folder: TemporaryFolder;
  const files = new Map<string, CertificateFiles>();
  beforeAll(async () => {
    folder = await temporaryFolder();
    for (const [name, [issuer, ...extensions]] of Object.entries(certificates)) {
      const by = issuer === undefined ? undefined : filesOf(issuer);
      files.set(
        name,
        extensions.length === 0
          ? await makeCertificate(folder.path, name, by)
          : await makeCertificateWith(folder.path, name, extensions, by),
      );
    }
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  function filesOf(name: string): CertificateFiles {
    const found = files.get(name);
    if (found === undefined) throw new TypeError(`there is no certificate ${name}`);
    return found;
  }

  async function derOf(name: string): Promise<string> {
    const { raw } = new X509Certificate(await readFile(filesOf(name).certificate));
    return raw.toString('base64');
  }

  async function login(signer: string, x5c: readonly unknown[], bundle = 'root'): Promise<unknown> {
    const privateKey = createPrivateKey(await readFile(filesOf(signer).key));
    const { publicKey } = new X509Certificate(await readFile(filesOf(signer).certificate));
    const keys = new TokenKeyFiles(
      { rootcertbundle: filesOf(bundle).certificate, jwks: undefined },
      { error: () => undefined },
    );
    const config = { realm: 'https://a.example', service: tokenService, issuer: tokenIssuer };
    const authentication = new TokenAuthentication({ ...config, signingalgorithms: [] }, keys);
    return authentication.login(`Bearer ${signedToken({ privateKey, publicKey }, { head: { x5c } })}`);
  }

  async function loginBy(chain: readonly string[], signer = chain[0] ?? '', bundle = 'root') {
    return login(signer, await Promise.all(chain.map(derOf)), bundle);
  }

  it('is refused without a signature check with an untrusted key, which may be slow', async () => {
    const verify = vi.spyOn(X509Certificate.prototype, 'verify');
    onTestFinished(() => verify.mockRestore());
    expect(await loginBy(['foreign', 'stranger'])).toBe('refused');
    expect(verify).not.toHaveBeenCalled();
  });

  it.each<[string[], string?]>([
    [['root']],
    [['signer']],
    [['signer', 'root']],
    [['plain']],
    [['approvingSigner']],
    [['forAll']],
    [['forTokens']],
    [['belowFirst', 'first']],
    [['belowFirst', 'first', 'root']],
    [['inside', 'named']],
    // An authority in the bundle need not be its own issuer.
    [['belowFirst'], 'first'],
    [['signer'], 'signer'],
  ])('is accepted if the chain leads to the bundle: %j', async (chain, bundle) => {
    expect(await loginBy(chain, chain[0], bundle)).toMatchObject({ user: 'ann' });
  });

  it.each([
    ['for TLS clients', ['client', 'root']],
    ['for TLS servers', ['server', 'root']],
    ['without a key usage for signatures', ['encrypter', 'root']],
    ['for documents alone (nonRepudiation)', ['approver', 'root']],
    ['with an unknown critical extension', ['unknown', 'root']],
    ['issued by a certificate that is not an authority', ['belowLeaf', 'signer', 'root']],
    ['issued by a certificate for TLS clients', ['belowClient', 'client', 'root']],
    ['issued by an authority only for TLS clients', ['belowClients', 'clients', 'root']],
    ['below more authorities than a path length allows', ['belowSecond', 'second', 'first', 'root']],
    ['issued by an authority without keyCertSign', ['belowUnsigning', 'unsigning', 'root']],
    ['outside the name constraints of an authority', ['outside', 'named', 'root']],
    ['self-signed', ['stranger']],
    ['of a foreign authority', ['foreign', 'stranger']],
    ['of a foreign authority, followed by the bundle', ['foreign', 'root']],
    ['of a foreign authority, twice', ['foreign', 'stranger', 'foreign', 'stranger']],
    ['self-signed, followed by the bundle', ['stranger', 'root']],
    ['in the wrong order', ['belowFirst', 'root', 'first']],
    ['in a chain that is too long', ['signer', ...Array.from({ length: 8 }, () => 'root')]],
  ])('is refused if the certificate is %s', async (_, chain) => {
    expect(await loginBy(chain)).toBe('refused');
  });

  it('is refused if it is signed by another key than that of the first certificate', async () => {
    expect(await loginBy(['signer', 'root'], 'foreign')).toBe('refused');
    expect(await loginBy(['root'], 'foreign')).toBe('refused');
  });

  it.each([
    ['expired', 3],
    ['not valid yet', -1],
  ])('is refused if the certificate is %s', async (_, days) => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + days * 24 * 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(await loginBy(['signer', 'root'])).toBe('refused');
  });

  it.each([
    ['not a list', 'x'],
    ['a list of numbers', [1]],
    ['not base64', ['!']],
    ['not a certificate', ['AAAA']],
    ['nested without end', [Buffer.from('3080'.repeat(5_000), 'hex').toString('base64')]],
  ])('is refused if the chain is %s', async (_, x5c) => {
    expect(await login('signer', x5c as unknown[])).toBe('refused');
  });
});

describe.skipIf(lacks('openssl'))('a chain with Ed25519 keys', () => {
  it('is accepted', async () => {
    await using folder = await temporaryFolder();
    const root = await makeCertificateWith(folder.path, 'root', [], undefined, ['-newkey', 'ed25519']);
    const signer = await makeCertificateWith(folder.path, 'signer', [leaf], root, ['-newkey', 'ed25519']);
    const [trusted, signing] = [root, signer].map(
      ({ certificate }) => new X509Certificate(readFileSync(certificate)),
    );
    if (trusted === undefined || signing === undefined) throw new TypeError('no certificate');
    const chain = [signing, trusted].map(({ raw }) => raw.toString('base64'));
    expect(await new CertificateChains([trusted]).keyOf(chain)).toMatchObject({
      asymmetricKeyType: 'ed25519',
    });
    expect(await new CertificateChains([signing]).keyOf(chain.slice(1))).toBeUndefined();
  });
});
