import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The API's description, as it comes with the program. */
export function openApi(): string {
  return readFileSync(fileURLToPath(new URL('../../docs/openapi.yaml', import.meta.url)), 'utf8');
}
