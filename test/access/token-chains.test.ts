import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TokenAuthentication } from '../../src/registry/token-authentication.js';
import { TokenKeyFiles } from '../../src/registry/token-keys.js';
import { makeCertificate, type CertificateFiles } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { signedToken, tokenIssuer, tokenService } from '../parts/signed-token.js';

type Name = 'authority' | 'signer' | 'below' | 'stranger' | 'foreign';

describe.skipIf(lacks('openssl'))('a token with the chain of its certificate', () => {
  let folder: TemporaryFolder;
  let files: Readonly<Record<Name, CertificateFiles>>;
  beforeAll(async () => {
    folder = await temporaryFolder();
    const make = (name: Name, issuer?: CertificateFiles) => makeCertificate(folder.path, name, issuer);
    const [authority, stranger] = [await make('authority'), await make('stranger')];
    const signer = await make('signer', authority);
    const foreign = await make('foreign', stranger);
    files = { authority, stranger, signer, foreign, below: await make('below', signer) };
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  async function login(signer: Name, chain: readonly Name[]): Promise<unknown> {
    const x5c = await Promise.all(
      chain.map(async (name) =>
        new X509Certificate(await readFile(files[name].certificate)).raw.toString('base64'),
      ),
    );
    const privateKey = createPrivateKey(await readFile(files[signer].key));
    const { publicKey } = new X509Certificate(await readFile(files[signer].certificate));
    const keys = new TokenKeyFiles(
      { rootcertbundle: files.authority.certificate, jwks: undefined },
      { error: () => undefined },
    );
    const config = { realm: 'https://a.example', service: tokenService, issuer: tokenIssuer };
    const authentication = new TokenAuthentication({ ...config, signingalgorithms: [] }, keys);
    return authentication.login(`Bearer ${signedToken({ privateKey, publicKey }, { head: { x5c } })}`);
  }

  it.each<[Name, Name[]]>([
    ['authority', ['authority']],
    ['signer', ['signer']],
    ['signer', ['signer', 'authority']],
  ])('is taken where it leads to the bundle: %s by %j', async (signer, chain) => {
    expect(await login(signer, chain)).toMatchObject({ user: 'ann' });
  });

  it.each<[Name, Name[]]>([
    ['stranger', ['stranger']],
    ['foreign', ['foreign', 'stranger']],
    ['foreign', ['foreign', 'authority']],
    ['foreign', ['signer', 'authority']],
    ['stranger', ['stranger', 'authority']],
    // Issued by a certificate that may not be an issuer.
    ['below', ['below', 'signer', 'authority']],
  ])('is refused where it does not: %s by %j', async (signer, chain) => {
    expect(await login(signer, chain)).toBe('refused');
  });
});
