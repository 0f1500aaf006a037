import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ConfigTexts } from '../../test/compat/config-text.js';
import type { S3Config } from './config.js';

const texts = new ConfigTexts();
const least = 'region: us-east-1, bucket: b';

function s3(keys: string, env: NodeJS.ProcessEnv = {}): S3Config {
  const { storage } = texts.load(`version: 0.1\nstorage: {s3: {${keys}}}`, env).config;
  if (storage.driver !== 's3') throw new Error(storage.driver);
  return storage.s3;
}

const faults = (keys: string) => texts.faultyKeys(`version: 0.1\nstorage: {s3: {${keys}}}`);

describe('the s3 driver', () => {
  it("has registry's defaults", () => {
    expect(s3(least)).toMatchObject({
      rootdirectory: '',
      chunksize: 10 * 2 ** 20,
      localcopies: 5e9,
      encrypt: false,
      secure: true,
      skipverify: false,
      forcepathstyle: false,
      endpoint: undefined,
      accesskey: undefined,
    });
  });

  it('takes an endpoint with or without a scheme', () => {
    const endpoint = (keys: string) => s3(`${least}, ${keys}`).endpoint;
    expect(endpoint('regionendpoint: "http://rgw:7480"')).toBe('http://rgw:7480');
    expect(endpoint('regionendpoint: "rgw:7480"')).toBe('https://rgw:7480');
    expect(endpoint('regionendpoint: "rgw:7480", secure: false')).toBe('http://rgw:7480');
    expect(s3(`${least}, regionendpoint: rgw`).forcepathstyle).toBe(true);
    expect(s3(`${least}, regionendpoint: rgw, forcepathstyle: false`).forcepathstyle).toBe(false);
    expect(faults(`${least}, regionendpoint: "http://rgw/path"`)).toEqual(['storage.s3.regionendpoint']);
  });

  it("takes slashes around the root directory as registry does, and S3's limits for parts", () => {
    expect(s3(`${least}, rootdirectory: /some/where/`).rootdirectory).toBe('some/where');
    expect(s3(`${least}, chunksize: 5242880`).chunksize).toBe(5_242_880);
    expect(faults(`${least}, chunksize: 5242879`)).toEqual(['storage.s3.chunksize']);
  });

  it('needs a bucket, a region and both keys or none', () => {
    expect(faults('accesskey: a')).toEqual([
      'storage.s3.region',
      'storage.s3.bucket',
      'storage.s3.secretkey',
    ]);
    expect(faults(`${least}, secretkey: a`)).toEqual(['storage.s3.accesskey']);
    expect(texts.faultyKeys(`version: 0.1\nstorage: {filesystem: {}, s3: {${least}}}`)).toEqual(['storage']);
  });

  it('shows no secret', () => {
    const config = s3(least, {
      REGISTRY_STORAGE_S3_ACCESSKEY: 'the-access-key',
      REGISTRY_STORAGE_S3_SECRETKEY: 'the-secret-key',
      REGISTRY_STORAGE_S3_SESSIONTOKEN: 'the-session-token',
    });
    expect(config.secretkey?.reveal()).toBe('the-secret-key');
    expect(inspect(config, { depth: 9 }) + JSON.stringify(config)).not.toContain('the-');
  });

  it('says what has no effect here', () => {
    const keys = `${least}, v4auth: true, multipartcopychunksize: 33554432`;
    expect(texts.warnedKeys(`version: 0.1\nstorage: {s3: {${keys}}}`)).toEqual([
      'storage.s3.v4auth',
      'storage.s3.multipartcopychunksize',
    ]);
  });
});
