import { describe, expect, it } from 'vitest';
import { Follower } from './certificates.js';

interface Scene {
  readonly follower: Follower;
  readonly taken: string[];
  readonly told: string[];
  state: string | Error;
}

function follow(state: string): Scene {
  const scene: Scene = {
    state,
    taken: [],
    told: [],
    follower: new Follower(
      () =>
        scene.state instanceof Error ? Promise.reject(scene.state) : Promise.resolve(String(scene.state)),
      () => {
        if (scene.state instanceof Error || scene.state.startsWith('bad')) throw new Error('no certificate');
        scene.taken.push(scene.state);
      },
      {
        info: (message: unknown) => scene.told.push(`info: ${String(message)}`),
        error: (_: unknown, message?: string) => scene.told.push(`error: ${message}`),
      },
    ),
  };
  return scene;
}

async function look(scene: Scene, times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) await scene.follower.look();
}

describe('files that a server follows', () => {
  it('are left alone while they stay the same', async () => {
    const scene = follow('a');
    await look(scene, 3);
    expect(scene.taken).toEqual([]);
  });

  it('are taken once, when they no longer change', async () => {
    const scene = follow('a');
    await look(scene, 2);
    scene.state = 'half of b';
    await look(scene, 1);
    scene.state = 'b';
    await look(scene, 1);
    expect(scene.taken).toEqual([]);
    await look(scene, 3);
    expect(scene.taken).toEqual(['b']);
    expect(scene.told).toEqual(['info: the certificate has changed, the new one is used']);
  });

  it.each(['bad', new Error('ENOENT')])('are told of once while they cannot be used (%s)', async (state) => {
    const scene = follow('a');
    await look(scene, 1);
    scene.state = state;
    await look(scene, 4);
    expect(scene.taken).toEqual([]);
    expect(scene.told).toEqual([expect.stringMatching(/^error: .* the one before it stays$/)]);
    scene.state = 'c';
    await look(scene, 2);
    expect(scene.taken).toEqual(['c']);
  });
});
