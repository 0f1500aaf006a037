import { describe, expect, it } from 'vitest';
import { ProxyRule, proxySettings } from './proxy.js';

describe('the proxy variables', () => {
  it('are read in lower case first', () => {
    expect(
      proxySettings({ http_proxy: 'a', HTTP_PROXY: 'b', HTTPS_PROXY: 'c', no_proxy: '', NO_PROXY: 'd' }),
    ).toEqual({ http: 'a', https: 'c', no: 'd' });
  });

  it.each<[string, string, string]>([
    ['example.com', 'https://example.com', 'direct'],
    ['example.com', 'https://r.example.com', 'direct'],
    ['example.com', 'https://example.com.', 'direct'],
    ['example.com', 'https://notexample.com', 'proxy'],
    ['.example.com', 'https://r.example.com', 'direct'],
    ['.example.com', 'https://example.com', 'proxy'],
    ['*.example.com', 'https://example.com', 'proxy'],
    ['*.example.com', 'https://r.example.com', 'direct'],
    ['EXAMPLE.com:8443', 'https://example.com:8443', 'direct'],
    ['example.com:8443', 'https://example.com', 'proxy'],
    ['other.net, example.com:443', 'https://example.com', 'direct'],
    ['*', 'https://example.com', 'direct'],
    ['10.0.0.1', 'https://10.0.0.1', 'direct'],
    ['10.0.0.1', 'https://10.0.0.10', 'proxy'],
    ['10.0.0.0/8', 'https://10.200.0.1', 'direct'],
    ['10.0.0.0/8', 'https://11.0.0.1', 'proxy'],
    ['10.0.0.0/99', 'https://10.0.0.1', 'proxy'],
    ['fd00::/8', 'https://[fd00::1]', 'direct'],
    ['[fd00::1]:443', 'https://[fd00::1]', 'direct'],
    ['fd00::1', 'https://[fd00::2]', 'proxy'],
    ['', 'https://localhost:5000', 'direct'],
    ['', 'https://127.0.0.2', 'direct'],
    ['', 'https://[::1]', 'direct'],
    ['', 'https://example.com', 'proxy'],
    ['', 'http://example.com', 'direct'],
  ])('with NO_PROXY=%s lead to %s: %s', (no, url, way) => {
    const rule = new ProxyRule({ https: 'proxy.internal:3128', no });
    expect(rule.proxyFor(new URL(url))?.href).toBe(
      way === 'proxy' ? 'http://proxy.internal:3128/' : undefined,
    );
  });

  it('are refused without being repeated', () => {
    const create = (): ProxyRule => new ProxyRule({ https: 'http://user:hunter2@:::' });
    expect(create).toThrow('HTTPS_PROXY');
    expect(create).not.toThrow('hunter2');
    expect(() => new ProxyRule({ http: 'socks5://proxy' })).toThrow('HTTP_PROXY');
  });
});
