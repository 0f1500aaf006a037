import { describe, expect, it } from 'vitest';
import { Seal } from './seal.js';
import { Seals } from './seals.js';

const hour = 60 * 60_000;
const parts = { attempt: 'a', digest: 'd', offset: 0, nonce: 'n' };

class Scene {
  secret = 'first';
  time = 1;
  readonly told: string[] = [];
  readonly seals = new Seals(
    () => this.secret,
    { info: (...said: unknown[]) => this.told.push(String(said.at(-1))) },
    () => this.time,
  );

  change(secret: string): void {
    this.secret = secret;
    this.time += 1_000;
  }
}

/** Which of these secrets count, in the order in which they do. */
function counting({ seals }: Scene): string[] {
  return seals
    .all()
    .flatMap((seal) =>
      ['first', 'second', 'third'].filter((secret) => new Seal(secret).isRequest(parts, seal.request(parts))),
    );
}

describe('what replicas prove themselves by', () => {
  it('is the secret', () => {
    const scene = new Scene();
    expect(counting(scene)).toEqual(['first']);
    expect(scene.told).toEqual([]);
  });

  it('changes to the new secret within a second', () => {
    const scene = new Scene();
    scene.secret = 'second';
    scene.time += 999;
    expect(counting(scene)).toEqual(['first']);
    scene.time += 1;
    expect(counting(scene)).toEqual(['second', 'first']);
  });

  it('includes the previous secret for an hour', () => {
    const scene = new Scene();
    scene.change('second');
    expect(counting(scene)).toEqual(['second', 'first']);
    scene.time += hour - 1;
    expect(counting(scene)).toEqual(['second', 'first']);
    scene.time += 1;
    expect(counting(scene)).toEqual(['second']);
    expect(scene.told).toEqual([expect.stringContaining('the secret of the cluster has changed')]);
  });

  it('is never one that was left two changes ago', () => {
    const scene = new Scene();
    scene.change('second');
    counting(scene);
    scene.change('third');
    expect(counting(scene)).toEqual(['third', 'second']);
  });
});
