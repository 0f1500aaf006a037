import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';

const texts = new ConfigTexts();

describe('verifycaller', () => {
  it('is of each upstream', () => {
    const { proxy } = texts.load(
      `${minimal}proxy:
  remoteurl: https://private.example
  verifycaller: true
  upstreams: [{host: a.example, url: 'https://a.example'}, {host: b.example, url: 'https://b.example', verifycaller: true}]
`,
    ).config;
    expect(proxy.default?.verifycaller).toBe(true);
    expect(proxy.upstreams.map(({ verifycaller }) => verifycaller)).toEqual([false, true]);
  });

  it.each([
    [
      'auth: {htpasswd: {realm: r, path: /dev/null}}\nproxy: {remoteurl: https://a.example, verifycaller: true}\n',
    ],
    ['proxy: {verifycaller: true}\n'],
    ['proxy: {remoteurl: https://a.example, verifycaller: perhaps}\n'],
  ])('is refused where it could not be honoured: %j', (text) => {
    expect(texts.faultyKeys(minimal + text)).toContain('proxy.verifycaller');
  });

  it('tells who may read without being verified', () => {
    const access =
      '[{networks: [10.0.0.0/8]}, {anonymous: true, networks: [10.1.0.0/16]}, {anonymous: true}]';
    const text = `proxy: {remoteurl: https://a.example, verifycaller: true, access: ${access}}\n`;
    const message = expect.stringContaining('verifycaller') as string;
    expect(texts.load(minimal + text).warnings).toEqual(
      [0, 1].map((index) => ({ key: `proxy.access[${index}].networks`, message })),
    );
    expect(texts.load(minimal + text.replace('verifycaller: true', 'verifycaller: false')).warnings).toEqual(
      [],
    );
  });

  it('goes with no auth section', () => {
    const text = `${minimal}auth: none\nproxy: {remoteurl: https://a.example, verifycaller: true}\n`;
    expect(texts.load(text).config.proxy.default?.verifycaller).toBe(true);
  });
});
