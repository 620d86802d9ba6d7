// Uploads a file with tus-js-client: `node upload.mjs TOOLS ENDPOINT TOKEN FILE CHUNK [BREAK_AT]`. With BREAK_AT it stops once
// so many bytes are acknowledged, as if the connection were gone, and goes on with a new upload of the same file, which finds
// the old one. Prints one line of JSON.
import { createReadStream, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [tools, endpoint, token, file, chunk, breakAt] = process.argv.slice(2);
const { Upload, FileUrlStorage } = createRequire(join(tools, 'package.json'))('tus-js-client');
const { size } = statSync(file);
const told = { requests: [], broke: false };

function upload(stopAt) {
  return new Promise((resolve, reject) => {
    const upload = new Upload(createReadStream(file), {
      endpoint,
      chunkSize: Number(chunk),
      uploadSize: size,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: 'photo.png', filetype: 'image/png' },
      retryDelays: [0, 100, 500],
      urlStorage: new FileUrlStorage(`${file}.urls`),
      fingerprint: async () => 'photo',
      storeFingerprintForResuming: true,
      onBeforeRequest: (request) => told.requests.push(request.getMethod()),
      onError: reject,
      onChunkComplete: (_, accepted) => {
        if (stopAt && accepted >= stopAt && accepted < size) {
          told.broke = true;
          upload.abort().then(() => resolve(null), reject);
        }
      },
      onSuccess: ({ lastResponse }) => {
        told.url = upload.url;
        told.file = lastResponse.getHeader('Content-Location');
        resolve(upload.url);
      },
    });
    upload.findPreviousUploads().then((previous) => {
      told.found = previous.length;
      if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0]);
      upload.start();
    }, reject);
  });
}

try {
  if ((await upload(Number(breakAt) || 0)) === null) await upload(0);
  console.log(JSON.stringify(told));
} catch (error) {
  console.log(JSON.stringify({ ...told, error: String(error) }));
  process.exitCode = 1;
}
