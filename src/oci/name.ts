/** A repository name by the grammar of the distribution-spec, at most 255 characters. Made by {@link parseRepository} only. */
export type Repository = string & { readonly __brand: 'Repository' };
/** A tag by the grammar of the distribution-spec. Made by {@link parseTag} only. */
export type Tag = string & { readonly __brand: 'Tag' };

const repositoryGrammar =
  /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagGrammar = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

/** The longest name that clients and registries agree on (distribution-spec, "Pulling manifests"). */
export const longestRepository = 255;

export function parseRepository(text: string): Repository | undefined {
  return text.length <= longestRepository && repositoryGrammar.test(text) ? (text as Repository) : undefined;
}

export function parseTag(text: string): Tag | undefined {
  return tagGrammar.test(text) ? (text as Tag) : undefined;
}
