import { readNvmeHealth } from './nvme.ts';

/**
 * `main.ts FOLDER CONTROLLER`: what this NVMe controller (`/dev`, `nvme0`) says of itself, one line of JSON
 * (DiskReading). A process for each, because one that is dying may hold the ioctl, and with it the process, for good.
 */
const [folder = '/dev', device = ''] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify(readNvmeHealth(device, folder))}\n`);
