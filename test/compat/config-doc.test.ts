import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { configurationPage } from '../../scripts/configuration-doc.js';
import { keysOf } from '../../src/config/key.js';
import { root } from '../../src/config/schema.js';

it('docs/configuration.md is what the schema says (scripts/configuration-doc.ts writes it)', async () => {
  const page = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  expect(page).toBe(configurationPage([...keysOf(root)]));
});
