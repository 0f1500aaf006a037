import type { Platform } from '../oci/manifest.js';

/** A platform that somebody wants. */
export interface WantedPlatform {
  readonly os: string;
  readonly architecture: string;
  /** `undefined`: any. */
  readonly variant: string | undefined;
}

const form = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9.]+))?$/;

/** Reads `linux/amd64` or `linux/arm/v7` (containerd/platforms); `undefined` for anything else. */
export function parsePlatform(text: string): WantedPlatform | undefined {
  const [, os, architecture, variant] = form.exec(text) ?? [];
  return os === undefined || architecture === undefined ? undefined : { os, architecture, variant };
}

/** Whether a manifest for this platform is one that is wanted. 64-bit ARM has one variant, which few indexes name. */
export function fits(platform: Platform, wanted: WantedPlatform): boolean {
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
  if (wanted.variant === undefined || wanted.variant === platform.variant) return true;
  return wanted.architecture === 'arm64' && wanted.variant === 'v8' && platform.variant === undefined;
}

export function platformName({ os, architecture, variant }: WantedPlatform): string {
  return variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;
}
