import { describe, expect, it } from 'vitest';
import { fits, parsePlatform, platformName } from './platform.js';

describe('a platform', () => {
  it.each(['linux/amd64', 'linux/arm/v7', 'windows/amd64', 'linux/arm64/v8'])('%s is read', (text) => {
    const platform = parsePlatform(text);
    expect(platform && platformName(platform)).toBe(text);
  });

  it.each(['', 'linux', 'linux/', '/amd64', 'linux/amd64/', 'Linux/amd64', 'linux/arm/v7/x', 'linux/../x'])(
    '%j is none',
    (text) => {
      expect(parsePlatform(text)).toBeUndefined();
    },
  );

  it.each([
    ['linux/amd64', 'linux', 'amd64', undefined, true],
    ['linux/amd64', 'linux', 'arm64', undefined, false],
    ['linux/amd64', 'windows', 'amd64', undefined, false],
    ['linux/arm', 'linux', 'arm', 'v7', true],
    ['linux/arm/v7', 'linux', 'arm', 'v6', false],
    ['linux/arm/v7', 'linux', 'arm', undefined, false],
    ['linux/arm64', 'linux', 'arm64', 'v8', true],
    ['linux/arm64/v8', 'linux', 'arm64', undefined, true],
  ])('%s and %s/%s/%s', (wanted, os, architecture, variant, expected) => {
    const platform = parsePlatform(wanted);
    expect(platform && fits({ os, architecture, variant }, platform)).toBe(expected);
  });
});
