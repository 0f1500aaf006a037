import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:https';

/*
 * In the place of Traefik, as a program: answers HTTPS at a port of 127.0.0.1 and passes everything on over HTTP.
 * Arguments: certificate, key, port, host and port of whom to ask.
 */
const [certificate = '', key = '', port = '', host = '', hostPort = ''] = process.argv.slice(2);
const options = { cert: readFileSync(certificate), key: readFileSync(key) };
const front = createServer(options, (incoming, answer) => {
  const headers = { ...incoming.headers, 'x-forwarded-proto': 'https' };
  const onward = request(
    { host, port: hostPort, method: incoming.method, path: incoming.url, headers },
    (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    },
  );
  onward.once('error', () => answer.destroy());
  incoming.pipe(onward);
});
front.listen(Number(port), '127.0.0.1', () => process.stdout.write('listening\n'));
