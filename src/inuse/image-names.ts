import { parseReference } from '../oci/reference.js';
import { dockerHubHosts, RouteError, type Route, type UpstreamDirectory } from '../upstream/directory.js';
import { imageText } from '../usage/in-use.js';

const [dockerHub = 'docker.io'] = dockerHubHosts;
/** What container runtimes put in front of an image's id: `docker-pullable://nginx@sha256:…`. */
const scheme = /^[a-z][a-z0-9+.-]*:\/\//;
/** The id of an image's configuration, under which nothing is stored here. */
const bareId = /^sha(?:256|512):[0-9a-f]+$/;

/**
 * What an image's name, as users or container runtimes write it, is here (see imageText); `undefined`: nothing of it
 * comes through this mirror. A host that is no upstream may be a name of this mirror: it is looked up as a client's
 * request to that host would be, `mirror.example.com/ghcr.io/team/app` included. What is meant for another registry
 * then keeps nothing but an image of the same name.
 */
export function imageHere(text: string, directory: UpstreamDirectory): string | undefined {
  const bare = text.replace(scheme, '');
  const reference = bareId.test(bare) ? undefined : parseReference(bare);
  if (reference === undefined) return undefined;
  const route = routeOf(reference.host ?? dockerHub, reference.name, directory);
  const identifier = reference.digest ?? reference.tag;
  return route === undefined || identifier === undefined ? undefined : imageText(route.stored, identifier);
}

function routeOf(host: string, name: string, directory: UpstreamDirectory): Route | undefined {
  const known = directory.hostOf({ ns: host }) !== undefined;
  if (!known && host === dockerHub) return undefined;
  try {
    return directory.route(known ? { ns: host, name } : { hostHeader: host, name });
  } catch (error) {
    if (error instanceof RouteError) return undefined;
    throw error;
  }
}
