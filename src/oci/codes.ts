/**
 * The error codes of the distribution-spec ("Error Codes") and those that registry:2 adds, with the HTTP status and
 * the text that a client shows to its user.
 */
export const errorCodes = {
  BLOB_UNKNOWN: { status: 404, message: 'blob unknown to registry' },
  DENIED: { status: 403, message: 'requested access to the resource is denied' },
  DIGEST_INVALID: { status: 400, message: 'provided digest is not one that this registry can verify' },
  MANIFEST_UNKNOWN: { status: 404, message: 'manifest unknown to registry' },
  NAME_INVALID: { status: 400, message: 'invalid repository name' },
  NAME_UNKNOWN: { status: 404, message: 'repository name not known to registry' },
  PAGINATION_NUMBER_INVALID: { status: 400, message: 'invalid number of results requested' },
  RANGE_INVALID: { status: 416, message: 'the range is outside the blob' },
  TAG_INVALID: { status: 400, message: 'invalid tag' },
  TOOMANYREQUESTS: { status: 429, message: 'too many requests' },
  UNAUTHORIZED: { status: 401, message: 'authentication required' },
  UNAVAILABLE: {
    status: 503,
    message: 'the upstream or the storage cannot be reached; try another host or later',
  },
  UNKNOWN: { status: 500, message: 'internal error' },
  URL_TOO_LONG: { status: 414, message: 'the path and query are too long' },
  UNSUPPORTED: { status: 405, message: 'this is a read-only mirror: push to the upstream registry instead' },
} as const satisfies Record<string, { readonly status: number; readonly message: string }>;

export type ErrorCode = keyof typeof errorCodes;
