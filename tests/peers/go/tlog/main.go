// Command tlogpeer lets Python tests use other people's implementations of C2SP's transparency log specifications.
// Nothing in it verifies anything itself.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	commands := map[string]func([]string) (any, error){
		"versions": versions, "agent": serveAgent, "keygen": keygen,
		"read": read, "fsck": check, "track": track, "verify-proof": verifyProof, "append": appendEntries,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tlogpeer COMMAND")
		os.Exit(2)
	}
	result, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

func versions([]string) (any, error) {
	found := map[string]string{"go": runtime.Version()}
	info, _ := debug.ReadBuildInfo()
	for _, one := range info.Deps {
		if one.Path == "filippo.io/torchwood" || one.Path == "github.com/transparency-dev/tessera" {
			found[one.Path] = one.Version
		}
	}
	return found, nil
}

// serveAgent is the ssh-agent that litewitness takes its key from: one new key, on the socket that is named.
func serveAgent(args []string) (any, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	fmt.Println(ssh.FingerprintSHA256(key))
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		go agent.ServeAgent(keys, conn)
	}
}

func keygen(args []string) (any, error) {
	secret, public, err := note.GenerateKey(rand.Reader, args[0])
	return map[string]string{"secret": secret, "public": public}, err
}

// read fetches a whole log with torchwood's client, under a policy, and proves its last entry with torchwood's own code.
func read(args []string) (any, error) {
	policyBytes, err := os.ReadFile(args[1])
	if err != nil {
		return nil, err
	}
	policy, err := torchwood.ParsePolicy(policyBytes)
	if err != nil {
		return nil, err
	}
	fetcher, err := torchwood.NewTileFetcher(args[0])
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	signed, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return nil, err
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return nil, err
	}
	reader, err := torchwood.NewClient(fetcher)
	if err != nil {
		return nil, err
	}
	entries := []string{}
	for _, entry := range reader.AllEntries(ctx, checkpoint.Tree, 0) {
		entries = append(entries, base64.StdEncoding.EncodeToString(entry))
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	_, path, err := reader.Entry(ctx, checkpoint.Tree, checkpoint.N-1)
	if err != nil {
		return nil, err
	}
	proof := torchwood.FormatProof(checkpoint.N-1, path, signed)
	return map[string]any{"size": checkpoint.N, "entries": entries, "proof": string(proof)}, nil
}

func hashes(bundle []byte) ([][]byte, error) {
	entries := &api.EntryBundle{}
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	found := [][]byte{}
	for _, entry := range entries.Entries {
		found = append(found, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return found, nil
}

// check fetches every tile and bundle of a log with tessera's fsck.
func check(args []string) (any, error) {
	verifier, fetcher, err := source(args[0], args[1])
	if err != nil {
		return nil, err
	}
	if err := fsck.New(verifier.Name(), verifier, fetcher, hashes, fsck.Opts{N: 2}).Check(context.Background()); err != nil {
		return nil, err
	}
	return "ok", nil
}

func source(where, key string) (note.Verifier, fsck.Fetcher, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, nil, err
	}
	base, err := url.Parse(where)
	if err != nil {
		return nil, nil, err
	}
	if base.Scheme == "file" {
		return verifier, &client.FileFetcher{Root: base.Path}, nil
	}
	fetcher, err := client.NewHTTPFetcher(base, nil)
	return verifier, fetcher, err
}

// track follows a log with tessera's client: one update for each line on standard input.
func track(args []string) (any, error) {
	verifier, fetcher, err := source(args[0], args[1])
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	consensus := client.UnilateralConsensus(fetcher.ReadCheckpoint)
	tracker, err := client.NewLogStateTracker(ctx, fetcher.ReadTile, nil, verifier, verifier.Name(), consensus)
	if err != nil {
		return nil, err
	}
	sizes := []uint64{tracker.Latest().Size}
	fmt.Println(sizes[0])
	buffer := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(buffer); err == io.EOF {
			return sizes, nil
		}
		if _, _, _, err := tracker.Update(ctx); err != nil {
			return nil, err
		}
		sizes = append(sizes, tracker.Latest().Size)
		fmt.Println(tracker.Latest().Size)
	}
}

// verifyProof checks a tlog-proof with torchwood: policy file, entry file, proof file.
func verifyProof(args []string) (any, error) {
	files := [][]byte{}
	for _, name := range args {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, data)
	}
	policy, err := torchwood.ParsePolicy(files[0])
	if err != nil {
		return nil, err
	}
	return "ok", torchwood.VerifyProof(policy, tlog.RecordHash(files[1]), files[2])
}

// appendEntries appends numbered entries to a log of tessera's in a folder, and waits until its witnesses have cosigned.
func appendEntries(args []string) (any, error) {
	flags := flag.NewFlagSet("append", flag.ContinueOnError)
	folder := flags.String("folder", "", "")
	key := flags.String("key", "", "")
	policyFile := flags.String("policy", "", "")
	first := flags.Int("first", 0, "")
	count := flags.Int("count", 1, "")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(*key)
	if err != nil {
		return nil, err
	}
	policy, err := os.ReadFile(*policyFile)
	if err != nil {
		return nil, err
	}
	group, err := tessera.NewWitnessGroupFromPolicy(policy)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: *folder})
	if err != nil {
		return nil, err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(*count), 100*time.Millisecond).
		WithCheckpointInterval(100*time.Millisecond).
		WithWitnesses(group, &tessera.WitnessOptions{Timeout: 5 * time.Second})
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return nil, err
	}
	waiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	futures := []tessera.IndexFuture{}
	for number := *first; number < *first+*count; number++ {
		futures = append(futures, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "their entry %d", number))))
	}
	indexes, checkpoint := []uint64{}, []byte{}
	for _, future := range futures {
		index, shown, err := waiter.Await(ctx, future)
		if err != nil {
			return nil, err
		}
		indexes, checkpoint = append(indexes, index.Index), shown
	}
	if err := shutdown(ctx); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(bytes.TrimSpace(checkpoint))
	return map[string]any{"indexes": indexes, "checkpoint": string(checkpoint), "digest": fmt.Sprintf("%x", sum)}, nil
}
