import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';

const texts = new ConfigTexts();
const hour = 3_600_000;

describe('beside Kubernetes and Docker', () => {
  it('nobody is asked where nothing is said', () => {
    const { proxy, cluster, scheduler } = texts.load(minimal).config;
    expect(proxy.pullsecrets).toEqual([]);
    expect(cluster.kubeconfig).toBeUndefined();
    expect(scheduler.inuse).toEqual({
      keep: 168 * hour,
      kubernetes: { enabled: false, namespaces: [], prewarm: false },
      docker: { socket: undefined, interval: 30_000, prewarm: false },
    });
  });

  it('Secrets are named, with their namespace or without', () => {
    const { config, warnings } = texts.load(
      `${minimal}proxy: {remoteurl: 'http://a.example', pullsecrets: [{name: a.b-c}, {namespace: team, name: x}]}\n`,
    );
    expect(config.proxy.pullsecrets).toEqual([
      { namespace: undefined, name: 'a.b-c' },
      { namespace: 'team', name: 'x' },
    ]);
    // They are credentials that whoever reaches the mirror reads with.
    expect(warnings).toEqual([expect.objectContaining({ key: 'auth' })]);
  });

  it.each([
    ['proxy: {pullsecrets: [{name: a}], dockerconfigjson: config.yml}', 'proxy.pullsecrets'],
    ['proxy: {pullsecrets: [{namespace: a}]}', 'proxy.pullsecrets[0].name'],
    // Nothing but a name reaches the API's paths and selectors.
    ["proxy: {pullsecrets: [{name: 'a,metadata.name=b'}]}", 'proxy.pullsecrets[0].name'],
    ['proxy: {pullsecrets: [{name: a, namespace: ../b}]}', 'proxy.pullsecrets[0].namespace'],
    ['scheduler: {inuse: {kubernetes: {namespaces: [a.b]}}}', 'scheduler.inuse.kubernetes.namespaces[0]'],
    ['scheduler: {inuse: {docker: {interval: 10ms}}}', 'scheduler.inuse.docker.interval'],
    ['scheduler: {inuse: {keep: 1m}}', 'scheduler.inuse.keep'],
    ['cluster: {kubeconfig: nowhere}', 'cluster.kubeconfig'],
  ])('%s is refused', (text, key) => {
    expect(texts.faultyKeys(`${minimal}${text}\n`)).toEqual([key]);
  });
});
