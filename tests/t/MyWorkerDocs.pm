# Pages of the docs as tests read them: their blocks, and whether an answer that a page shows is what was answered.

package MyWorkerDocs;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(pieces is_answer agrees);

# The blocks of a page in order: { kind, text, line, needs }. The kind is what stands behind the fence, or `test` for
#
#     <!-- test
#     ...
#     -->
#
# which readers do not see. A line `<!-- needs NAME -->` before a block says which extension it needs.
sub pieces
{
	my ($page) = @_;
	my (@found, $now);
	my ($line, $needs) = (0, '');
	for (split /^/, $page)
	{
		$line++;
		if ($now)
		{
			if (/^```$|^-->$/) { push @found, $now; undef $now }
			else { $now->{text} .= $_ }
		}
		elsif (/^<!-- needs (\w+) -->$/) { $needs = $1 }
		elsif (/^```(\w+)/ || /^<!-- (test)$/)
		{
			$now = { kind => $1, text => '', line => $line, needs => $needs };
			$needs = '';
		}
	}
	return @found;
}

# Whether a block is an answer of psql, by the rule below its header.
sub is_answer
{
	my ($piece) = @_;
	return $piece->{kind} eq 'text' && $piece->{text} =~ /^-+(?:\+-+)*$/m;
}

# Whether what a page shows, up to white space at the ends of lines, is a part of what was answered. A line of three
# dots stands for lines that are left out.
sub agrees
{
	my ($shown, $answer) = @_;
	my @lines = map { s/[ \t]+$//r } split /\n/, $shown;
	my $pattern = join "\n", map { $_ eq '...' ? '(?s:.*)' : quotemeta } @lines;
	$answer =~ s/[ \t]+$//mg;
	return $answer =~ /^$pattern$/m;
}

1;
