import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadAsOwner, type ProcessUser } from './privileges.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cistern-privileges-'));
  mkdirSync(join(folder, 'data'));
  for (const path of [folder, join(folder, 'data')]) chownSync(path, uid, gid);
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A process that is root, and what it did to be somebody else. */
function rootProcess(refused: readonly string[] = []): ProcessUser & { readonly calls: string[] } {
  let uid = 0;
  const calls: string[] = [];
  const note = (name: string, id: unknown): void => {
    if (refused.includes(name)) throw Object.assign(new Error('not permitted'), { code: 'EPERM' });
    calls.push(`${name} ${JSON.stringify(id)}`);
  };
  return {
    calls,
    geteuid: () => uid,
    getgroups: () => [0],
    setgroups: (groups) => note('setgroups', groups),
    setegid: (id) => note('setegid', id),
    seteuid: (id) => {
      note('seteuid', id);
      uid = id;
    },
    setgid: (id) => note('setgid', id),
    setuid: (id) => note('setuid', id),
  };
}

function load(more: string, user: ProcessUser, env: NodeJS.ProcessEnv = { CISTERN_LEAVE_ROOT: 'true' }) {
  const path = join(folder, 'config.yml');
  const storage = `storage: {filesystem: {rootdirectory: ${join(folder, 'data')}}}`;
  writeFileSync(path, `version: 0.1\n${storage}\n${more}`);
  return loadAsOwner({ path, env, cwd: folder }, user);
}

/** Only root can give a folder away; everybody else has given it to himself. */
const uid = process.getuid?.() || 1234;
const gid = process.getgid?.() || 1234;

describe('a process that is root', () => {
  it('stays what it is unless it is told to leave', () => {
    const user = rootProcess();
    expect(load('', user, {})).toMatchObject({ became: undefined, rootBecause: undefined });
    expect(user.calls).toEqual([]);
  });

  it('becomes the owner of its folder, and no more can be root', () => {
    const user = rootProcess();
    expect(load('', user)).toMatchObject({ became: { uid, gid }, rootBecause: undefined });
    expect(user.calls.slice(-3)).toEqual([`setgroups [${gid}]`, `setgid ${gid}`, `setuid ${uid}`]);
  });

  it('becomes the owner of the folder in which its own will be made', () => {
    rmSync(join(folder, 'data'), { recursive: true });
    expect(load('', rootProcess()).became).toEqual({ uid, gid });
  });

  it('stays root where a folder is of root, or of several owners', () => {
    expect(load('proxy: {spool: {directory: /}}', rootProcess()).rootBecause).toContain(
      'have several owners',
    );
    expect(load('http: {net: unix, addr: /mirror.sock}', rootProcess()).rootBecause).toContain(
      'several owners',
    );
  });

  it('stays root where it may not change its user', () => {
    const user = rootProcess(['setgroups', 'setegid', 'seteuid']);
    expect(load('', user)).toMatchObject({ became: undefined, rootBecause: 'it may not change its user' });
  });
});

describe('a process that is not root', () => {
  it('stays who it is', () => {
    const user = { ...rootProcess(), geteuid: () => 1000 };
    expect(load('', user)).toMatchObject({ became: undefined, rootBecause: undefined });
    expect(user.calls).toEqual([]);
  });
});
