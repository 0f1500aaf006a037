import { z } from 'zod';
import { Secret } from './secret.js';
import type { Path } from './tree.js';
import type { Value } from './values.js';

/** What is known of a key besides its type. The documentation, the warnings and the names in the environment come from it. */
export type Facts = SectionFacts | EntriesFacts | ValueFacts | HeadersFacts | IgnoredFacts | RefusedFacts;

interface Described {
  /** One sentence for the documentation. */
  readonly text: string;
  /** A key of this program, which registry does not have. */
  readonly ours?: boolean;
  /** The name in the environment where it differs from the key: registry derives it from a field of another name. */
  readonly env?: string;
  /** Set for a security setting: if it is empty, the mirror does not start. Completes "remove the key if …". */
  readonly guard?: string;
}

export interface SectionFacts extends Described {
  readonly form: 'section';
  readonly children: z.ZodRawShape;
  /** What becomes of a key that is not known here. `refusal`: of a variable of the environment as well. */
  readonly unknown: 'warning' | 'fault' | 'refusal';
}

/** A list of sections. */
export interface EntriesFacts extends Described {
  readonly form: 'entries';
  readonly entry: SectionFacts;
}

export interface ValueFacts extends Described {
  readonly form: 'value';
  readonly value: Value<unknown>;
  /** `lists`: a map of names to lists. */
  readonly many: 'no' | 'list' | 'map' | 'lists';
  readonly fallback?: string;
  readonly required?: boolean;
}

export interface HeadersFacts extends Described {
  readonly form: 'headers';
}

/** Registry's key, accepted with a warning; `text` says why it has no effect. */
export interface IgnoredFacts extends Described {
  readonly form: 'ignored';
}

/** A key that the start is refused with; `text` says why, `wanted` what to do instead. */
export interface RefusedFacts extends Described {
  readonly form: 'refused';
  readonly wanted: string;
}

const known = new WeakMap<z.core.$ZodType, Facts>();

/** What is known of a key of the schema. Every key is made by this module, so that something always is. */
export function factsOf(schema: z.core.$ZodType): Facts {
  const facts = known.get(schema);
  if (facts === undefined) throw new TypeError('a key of the configuration without its facts');
  return facts;
}

/** The same for a schema that is one section. */
export function sectionOf(schema: z.core.$ZodType): SectionFacts {
  const facts = factsOf(schema);
  if (facts.form !== 'section') throw new TypeError('not a section of the configuration');
  return facts;
}

function keep<T extends z.ZodType>(schema: T, facts: Facts): T {
  known.set(schema, facts);
  return schema;
}

type More = Pick<Described, 'ours' | 'env' | 'guard'>;
export const ours = { ours: true } as const;

/** Marks a security setting. `unless` says when the operator can omit it, and completes "remove the key if …". */
export function guard(unless: string, more: More = {}): More {
  return { ...more, guard: unless };
}

function scalar<T>(value: Value<T>, fallback?: string): z.ZodType<T> {
  return z.unknown().transform((given, context) => {
    const read = typeof given === 'string' ? value.read(given) : undefined;
    if (read !== undefined) return read;
    const { wanted } = value;
    const message =
      typeof wanted === 'string' ? wanted : wanted(typeof given === 'string' ? given : '', fallback);
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

export function optional<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<T | undefined> {
  return keep(scalar(value).optional(), { form: 'value', many: 'no', value, text, ...more });
}

/** A key with a default, which is written as it would be in the file. */
export function defaulted<T>(value: Value<T>, fallback: string, text: string, more: More = {}): z.ZodType<T> {
  return keep(
    z.preprocess((given) => given ?? fallback, scalar(value, fallback)),
    { form: 'value', many: 'no', value, text, fallback, ...more },
  );
}

export function required<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<T> {
  return keep(scalar(value), { form: 'value', many: 'no', value, text, required: true, ...more });
}

export function list<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<T[]> {
  const error = () => `a list, each of it ${typeof value.wanted === 'string' ? value.wanted : value.kind}`;
  return keep(z.array(scalar(value), { error }).default([]), {
    form: 'value',
    many: 'list',
    value,
    text,
    ...more,
  });
}

/** A list, or one text with commas between. */
export function commaList<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<T[]> {
  const split = (given: unknown) =>
    typeof given === 'string' ? given.split(',').map((part) => part.trim()) : given;
  const error = () => 'a list, or a text with commas between';
  return keep(z.preprocess(split, z.array(scalar(value), { error }).default([])), {
    form: 'value',
    many: 'list',
    value,
    text,
    ...more,
  });
}

export function map<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<Record<string, T>> {
  const error = () => 'a map of names to values';
  return keep(z.record(z.string(), scalar(value), { error }).default({}), {
    form: 'value',
    many: 'map',
    value,
    text,
    ...more,
  });
}

/** A map whose names are chosen freely, each with a list of values. */
export function lists<T>(value: Value<T>, text: string, more: More = {}): z.ZodType<Record<string, T[]>> {
  const values = z.array(scalar(value), { error: () => 'a list' });
  const error = () => 'a map of names, each with a list';
  return keep(z.record(z.string(), values, { error }).default({}), {
    form: 'value',
    many: 'lists',
    value,
    text,
    ...more,
  });
}

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const headerValue: Value<string> = {
  kind: 'header value',
  wanted: 'a header value without control characters',
  read: (given) => (/^[\t\x20-\x7e\x80-\xff]*$/.test(given) ? given : undefined),
};

/** HTTP headers, each with a list of values (RFC 9110 §5). Values may be credentials, so no error shows them. */
export function headers(text: string): z.ZodType<Record<string, string[]>> {
  return headersOf(headerValue, text);
}

/** The same where values are likely to be credentials: they stay secret once they are read. */
export function secretHeaders(text: string): z.ZodType<Record<string, Secret[]>> {
  const read = (given: string): Secret | undefined =>
    headerValue.read(given) === undefined ? undefined : new Secret(given);
  return headersOf({ ...headerValue, read }, text);
}

function headersOf<T>(value: Value<T>, text: string): z.ZodType<Record<string, T[]>> {
  const values = z.array(scalar(value), { error: () => 'a list of header values' });
  const name = z.string().regex(headerName);
  const error: z.core.$ZodErrorMap = ({ code }) =>
    code === 'invalid_key' ? 'the name of a header' : 'a map of header names, each with a list of values';
  return keep(z.record(name, values, { error }).default({}), { form: 'headers', text });
}

type SectionOptions = More & Partial<Pick<SectionFacts, 'unknown'>>;

function sectionFacts(text: string, children: z.ZodRawShape, options: SectionOptions): SectionFacts {
  return { form: 'section', text, children, unknown: 'warning', ...options };
}

const sectionError = { error: () => 'a section: a map of keys' };

/** A section whose defaults hold where it is absent. */
export function section<S extends z.ZodRawShape>(text: string, children: S, options: SectionOptions = {}) {
  const schema = z.object(children, sectionError);
  const empty = {} as z.input<typeof schema>;
  return keep(
    z.preprocess((given) => given ?? empty, schema),
    sectionFacts(text, children, options),
  );
}

/** A section that is there or not. */
export function optionalSection<S extends z.ZodRawShape>(
  text: string,
  children: S,
  options: SectionOptions = {},
) {
  return keep(z.object(children, sectionError).optional(), sectionFacts(text, children, options));
}

export function entries<S extends z.ZodRawShape>(text: string, children: S, options: SectionOptions = {}) {
  const error = () => 'a list of sections';
  const { env, guard, ...rest } = options;
  return keep(z.array(z.object(children, sectionError), { error }).default([]), {
    form: 'entries',
    text,
    entry: sectionFacts(text, children, rest),
    ...(rest.ours === true ? ours : {}),
    ...(env === undefined ? {} : { env }),
    ...(guard === undefined ? {} : { guard }),
  });
}

/** A key of registry's that makes no sense here: accepted, with one warning. */
export function ignored(why: string) {
  return keep(z.unknown().optional(), { form: 'ignored', text: why });
}

/** A key that must not be ignored, and cannot be honoured: refused. */
export function refused(why: string, wanted: string) {
  return keep(z.unknown().optional(), { form: 'refused', text: why, wanted });
}

/** The facts of the key at this path, or of the key that contains this path. */
export function factsAt(facts: Facts, path: Path): Facts | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return facts;
  if (facts.form === 'entries') return factsAt(facts.entry, rest);
  if (facts.form !== 'section') return facts;
  const child = Object.hasOwn(facts.children, step) ? facts.children[step] : undefined;
  return child === undefined ? undefined : factsAt(factsOf(child), rest);
}

export interface Key {
  /** `proxy.upstreams[].host` */
  readonly path: string;
  /** `REGISTRY_PROXY_UPSTREAMS_0_HOST` */
  readonly variable: string;
  readonly facts: Facts;
}

/** Every key below a section, in the order of the schema; sections before what they hold. */
export function* keysOf(facts: SectionFacts, path = '', variable = 'REGISTRY'): Generator<Key> {
  for (const [name, schema] of Object.entries(facts.children)) {
    const child = factsOf(schema);
    const key = {
      path: path === '' ? name : `${path}.${name}`,
      variable: `${variable}_${child.env ?? name.toUpperCase()}`,
      facts: child,
    };
    yield key;
    if (child.form === 'section') yield* keysOf(child, key.path, key.variable);
    if (child.form === 'entries') yield* keysOf(child.entry, `${key.path}[]`, `${key.variable}_0`);
  }
}
