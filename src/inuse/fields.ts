/** A part of somebody else's JSON, of which nothing is certain. */
export type Fields = Readonly<Record<string, unknown>>;

/** What is there, or no fields. */
export function fieldsAt(value: unknown, ...path: readonly string[]): Fields {
  let found = value;
  for (const name of path) found = isFields(found) ? found[name] : undefined;
  return isFields(found) ? found : {};
}

/** Those of a list that are objects. */
export function elementsOf(list: unknown): Fields[] {
  return Array.isArray(list) ? list.filter((item) => isFields(item)) : [];
}

export function elementsAt(value: unknown, name: string): Fields[] {
  return isFields(value) ? elementsOf(value[name]) : [];
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}
