import { daemonJson, hostsToml, k3sRegistries, registriesConf, talosPatch } from './client-files.js';
import type { MirrorAddress } from './hosts.js';

/** What `/nodes` shows, for copy and paste. */
export interface Section {
  readonly title: string;
  readonly text: string;
  /** Where it goes, or what it does. */
  readonly hint: string;
}

/** The files of all clients, for a mirror that is reached at this address and serves these hosts' images. */
export function sectionsFor(mirror: MirrorAddress, registries: readonly string[]): Section[] {
  const setup = { mirror, ownCa: false, fallback: true };
  const folders = (folder: string): string =>
    registries.map((registry) => `${folder}/${registry}/hosts.toml`).join(', ');
  return [
    {
      title: 'All at once',
      hint: 'on the machine that pulls, as root; --dry-run shows what it would change, --undo takes it back',
      text: `cistern configure-node --mirror ${mirror.url}\n`,
    },
    {
      title: 'dockerd: Docker Hub',
      hint: '/etc/docker/daemon.json, beside what is there; then systemctl reload docker',
      text: daemonJson(setup),
    },
    {
      title: 'dockerd that keeps its images in containerd: every registry',
      hint: `${folders('/etc/docker/certs.d')}; read at each pull`,
      text: hostsToml(setup),
    },
    {
      title: 'containerd, and Kubernetes on it',
      hint: `${folders('/etc/containerd/certs.d')}; read at each pull, where config_path names the folder`,
      text: hostsToml(setup),
    },
    {
      title: 'podman, CRI-O, buildah, skopeo',
      hint: '/etc/containers/registries.conf.d/50-cistern.conf; then systemctl reload crio where that runs',
      text: registriesConf(setup, registries),
    },
    {
      title: 'k3s and RKE2',
      hint: '/etc/rancher/k3s/registries.yaml (/etc/rancher/rke2); then restart the service',
      text: k3sRegistries(setup, registries),
    },
    {
      title: 'Talos',
      hint: 'talosctl patch machineconfig --patch @mirror.yaml',
      text: talosPatch(setup, registries),
    },
  ];
}

const unsure =
  'The address is the one that this page was asked at. Behind a proxy that ends TLS, http.trustedproxies has to name ' +
  'the proxy. Where the certificate is of an authority of your own, configure-node takes it with --ca.';

export function plainPage(mirror: MirrorAddress, sections: readonly Section[]): string {
  const parts = sections.map(({ title, hint, text }) => `# ${title}\n# ${hint}\n\n${text}`);
  return [`# Pulling through ${mirror.url}\n# ${unsure}\n`, ...parts].join('\n');
}

export function htmlPage(mirror: MirrorAddress, sections: readonly Section[]): string {
  const parts = sections.map(
    ({ title, hint, text }) => `<h2>${escape(title)}</h2><p>${escape(hint)}</p><pre>${escape(text)}</pre>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escape(mirror.host)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em}pre{background:#8882;padding:1em;overflow:auto}</style>
<h1>Pulling through ${escape(mirror.url)}</h1><p>${escape(unsure)}</p>
${parts.join('\n')}
</html>
`;
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escape(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => entities[character] ?? character);
}
