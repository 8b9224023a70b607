// Takes the picture for scripts/picture.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chromium } from 'playwright-core';

const dashboard = spawn(process.env.MY_WORKER_WEB, ['--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] });
const [line] = await once(dashboard.stdout, 'data');
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1340, height: 640 }, colorScheme: 'dark' });
await page.goto(/http:\S+/.exec(line)[0]);
await page.locator('a.health:not(.unknown)').waitFor();
await page.waitForTimeout(2000);
await page.screenshot({ path: process.env.SHOT });
await browser.close();
dashboard.kill();
