const hidden = '(hidden)';
/** Characters of a text that a log line keeps. */
const longest = 8 * 1024;
/** Shorter values would also be found in words. */
const shortestSecret = 4;

/** Forms in which a credential appears in a text. Repetitions are bounded, so that no text makes a match slow. */
const forms: readonly (readonly [form: RegExp, replacement: string])[] = [
  [/-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|$)/g, hidden],
  // JSON.parse quotes the text that it cannot read.
  [/(Unexpected .{1,40}, )(?:\.\.\.)?"[\s\S]*"(?:\.\.\.)?( is not valid JSON)/g, `$1${hidden}$2`],
  // The user and the password of a URL (RFC 3986 §3.2.1).
  [/([a-z][a-z\d+.-]{0,20}:\/\/)[^\s/?#"'<>]*@/gi, `$1${hidden}@`],
  // Header fields, as lines and as pairs of a list.
  [
    /((?:proxy-)?authorization|x-registry-auth|(?:set-)?cookie)(["']?\s{0,5}[:=,]\s{0,5}["']?)[^\r\n"']+/gi,
    `$1$2${hidden}`,
  ],
  [/\b(Bearer|Basic|bearer|basic)( +)(?!realm=|[a-z]+\b)[\w+/=.~-]+/g, `$1$2${hidden}`],
  // Fields and parameters, also those of presigned URLs.
  [
    /([\w-]{0,40}(?:password|passwd|secret|token|credentials?|signature|\bsig|(?:access|private|secret|api)[_-]?key))(["']?\s{0,5}[:=]\s{0,5})("[^"]*"?|'[^']*'?|[^\s&,;"'})\]]+)/gi,
    `$1$2${hidden}`,
  ],
  [/\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?/g, hidden], // a JSON Web Token
  [/\b(?:dckr_[a-z]+|gh[oprsu]|github_pat|glpat)[_-][\w-]{8,}/g, hidden], // access tokens of registries
];

/** A text for the log, without these secrets and without what has the form of a credential. A long text is cut. */
export function withoutSecrets(text: string, secrets: readonly string[] = []): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length >= shortestSecret) clean = clean.replaceAll(secret, hidden);
  }
  clean = clean.slice(0, longest);
  for (const [form, replacement] of forms) clean = clean.replace(form, replacement);
  return clean;
}
